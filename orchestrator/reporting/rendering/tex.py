"""A table as LaTeX: tabulars of results and of gains with their notes, which need booktabs alone and compile whatever the titles hold."""

import re
import unicodedata
from collections.abc import Sequence

from orchestrator.reporting.rendering import words
from orchestrator.reporting.rendering.numbers import plain, value
from orchestrator.reporting.table import Row, Table
from orchestrator.reporting.verdicts import Verdict
from studies.presentation import Column

MARKS = {Verdict.REPRODUCED: "r", Verdict.OFF: "o", Verdict.NOT_COMPARABLE: "n"}
STAR = "{*}"
PAGE, SMALL_PAGE = 96, 164  # characters that fit between margins of 2 cm on A4, and that do when they are small; wider ones are tiny
BETWEEN = 2  # characters that the space between two columns takes
LONG = 38  # characters of a title; longer ones are broken into lines
_COMMANDS = re.compile(r"\\[a-zA-Z]+|[{}$\\]")
MINUS = re.compile(r"^-(?=\d)")
_ESCAPED = {char: f"\\{char}" for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "[": "{[}",  # after a row's end it would be an argument
    "*": "{*}",
    "`": r"\`{}",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    "×": r"$\times$",  # noqa: RUF001
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "−": "$-$",  # noqa: RUF001
    "–": "--",  # noqa: RUF001
    "—": "---",
    "…": r"\dots{}",
    "‘": "`",  # noqa: RUF001
    "’": "'",  # noqa: RUF001
    "“": "``",
    "”": "''",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
}
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327", "`'^~=u.\"rHvc", strict=True))


def render(table: Table) -> str:
    """Head, tabular, tabular of gains and notes, a paragraph each: to be input as it is, or in a table environment."""
    gains = words.gain_lines(table)
    parts = [
        [f"% {table.title} ({words.place(table)}); needs \\usepackage{{booktabs}}"],
        [rf"\noindent\textbf{{{text(table.title)}}} ({text(words.place(table))})", r"\par\medskip\noindent"],
        _tabular(table),
        *([_gains(table, gains)] if gains else []),
        _notes(table),
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def _tabular(table: Table) -> list[str]:
    """The results; printed small where they would not fit a page."""
    paired = {column.metric for column in table.columns if any(column.metric in row.printed for row in table.shown)}
    width = 2 + len(table.columns) + len(paired)
    header, body = _header(table.columns, paired, ("published", "measured")), _body(table, paired, width, r"\pm ")
    characters = _characters([header[-1], *body])
    small = characters > PAGE
    size = r"\scriptsize\setlength{\tabcolsep}{2.5pt}" if characters <= SMALL_PAGE else r"\tiny\setlength{\tabcolsep}{1.5pt}"
    first = _names([row.title for row in table.shown], "4.4cm" if small else "6cm")
    return [
        *([f"{{{size}"] if small else []),
        rf"\begin{{tabular}}{{{first}{'r' * (width - 2)}l}}",
        r"\toprule",
        *(_header(table.columns, paired, ("publ.", "meas.")) if small else header),
        r"\midrule",
        *(_body(table, paired, width, r"{\pm}") if small else body),
        r"\bottomrule",
        r"\end{tabular}",
        *(["}"] if small else []),
    ]


def _characters(lines: Sequence[str]) -> int:
    """How many characters wide a tabular of these lines is, with what stands between its columns."""
    rows = [[_COMMANDS.sub("", field) for field in line.split(" & ")] for line in lines if " & " in line]
    return sum(max(map(len, column)) + BETWEEN for column in zip(*rows, strict=True))


def _names(titles: Sequence[str], most: str) -> str:
    """A column of titles, broken into lines where one is long. most: its width then."""
    return "l" if max(map(len, titles), default=0) <= LONG else f"p{{{most}}}"


def _gains(table: Table, gains: Sequence[Sequence[str]]) -> list[str]:
    column = words.headline(table)
    assert column
    return [
        rf"\par\medskip\noindent\textbf{{Gains in {text(column.title)}}}",
        r"\par\nopagebreak\medskip\noindent",
        rf"{{\footnotesize\begin{{tabular}}{{{''.join(_names(column, '4.8cm') for column in list(zip(*gains, strict=True))[:2])}rrrrl}}",
        r"\toprule",
        _line([text(field) for field in words.GAIN_HEADER]),
        r"\midrule",
        *(_line([text(MINUS.sub("\N{MINUS SIGN}", field)) for field in line]) for line in gains),
        r"\bottomrule",
        r"\end{tabular}",
        "}",
    ]


def _notes(table: Table) -> list[str]:
    told = [
        *_legend(table),
        *map(text, [*filter(None, [words.counted(table)]), *words.order_lines(table), *table.notes, *words.links(table)]),
    ]
    items = [rf"\item {line}" for line in told]
    return [r"\par\medskip", r"\begin{itemize}\footnotesize\setlength{\itemsep}{0pt}", *items, r"\end{itemize}"] if items else []


def _header(columns: Sequence[Column], paired: set[str], pair: tuple[str, str]) -> list[str]:
    """Titles of the columns, above those of the `pair` of published and measured."""
    if not paired:
        return [_line(["arm", *(text(column.title) for column in columns), "seeds"])]
    above, rules, below, at = [""], [], ["arm"], 2
    for column in columns:
        span = 2 if column.metric in paired else 1
        above.append(rf"\multicolumn{{{span}}}{{c}}{{{text(column.title)}}}")
        below += pair[2 - span :]
        rules.append(rf"\cmidrule(lr){{{at}-{at + span - 1}}}")
        at += span
    return [_line([*above, ""]), " ".join(rules), _line([*below, "seeds"])]


def _body(table: Table, paired: set[str], width: int, plus_minus: str) -> list[str]:
    lines: list[str] = []
    before: Row | None = None
    for heading, rows in words.groups(table):
        for place, row in enumerate(rows):
            if before and (place == 0 or ((before.role == "teacher") and row.role != "teacher")):
                lines.append(r"\midrule")
            if place == 0 and heading:
                lines.append(_line([rf"\multicolumn{{{width}}}{{l}}{{\textit{{{text(heading)}}}}}"]))
            cells = [field for column in table.columns for field in _cell(row, column, column.metric in paired, plus_minus)]
            lines.append(_line([text(row.title), *cells, text(row.seeds)]))
            before = row
    return lines


def _cell(row: Row, column: Column, paired: bool, plus_minus: str) -> list[str]:
    """The published number, where the column has any, and the measured one."""
    cell, printed = row.cells.get(column.metric), row.printed.get(column.metric)
    measured = "$" + value(cell, column, plus_minus, gain=printed is None) + "$" if cell else "--"
    if cell and cell.n < row.usual_n:
        measured += f" (n {cell.n})"
    mark = MARKS.get(printed.verdict) if printed and printed.verdict and cell else None
    measured += rf"\textsuperscript{{{mark}}}" if mark else ""
    star = STAR if printed and printed.remarked else ""
    published = f"${plain(printed.value, column)}${star}" if printed else ""
    return [published, measured] if paired else [measured]


def _legend(table: Table) -> list[str]:
    """How cells with published numbers are read, as TeX; nothing for a table without."""
    printed = [printed for row in table.shown for printed in row.printed.values()]
    used = {each.verdict for row in table.shown for metric, each in row.printed.items() if metric in row.cells}
    marks = [rf"\textsuperscript{{{mark}}} {text(words.MEANINGS[verdict])}" for verdict, mark in MARKS.items() if verdict in used]
    marks += [f"{STAR} see the remarks"] if any(each.remarked for each in printed) else []
    return [f"{', '.join(marks)}."] if marks else []


def _line(fields: Sequence[str]) -> str:
    return " & ".join(fields) + r" \\"


def text(line: str) -> str:
    """One line of plain text as LaTeX; a letter that LaTeX's own fonts have not is a question mark."""
    return "".join(_letter(char) for char in line)


def _letter(char: str) -> str:
    if char in _ESCAPED:
        return _ESCAPED[char]
    if char.isascii():
        return char
    if "\N{GREEK SMALL LETTER ALPHA}" <= char <= "\N{GREEK SMALL LETTER OMEGA}":
        name = unicodedata.name(char).removeprefix("GREEK SMALL LETTER ").lower().replace("lamda", "lambda")
        return {"omicron": "o", "final sigma": r"$\varsigma$"}.get(name, rf"$\{name}$")
    parts = unicodedata.normalize("NFD", char)
    base, accent = parts[0], parts[1:]
    return rf"\{_ACCENTS[accent]}{{{base}}}" if accent in _ACCENTS and base.isascii() and base.isalpha() else "?"
