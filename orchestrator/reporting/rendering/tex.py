"""A table as LaTeX: a tabular that needs nothing but booktabs and compiles with pdflatex whatever the titles hold."""

import unicodedata
from collections.abc import Sequence

from orchestrator.reporting.rendering import words
from orchestrator.reporting.rendering.numbers import plain, value
from orchestrator.reporting.table import Row, Table
from orchestrator.reporting.verdicts import Verdict
from studies.presentation import Column

MARKS = {Verdict.REPRODUCED: "r", Verdict.OFF: "o", Verdict.NOT_COMPARABLE: "n"}
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
    """The tabular, with notes as comments below it."""
    paired = {column.metric for column in table.columns if any(column.metric in row.printed for row in table.shown)}
    width = 2 + len(table.columns) + len(paired)
    legend = [_line([rf"\multicolumn{{{width}}}{{l}}{{\footnotesize {_legend(table)}}}"])] if paired else []
    lines = [
        f"% {table.title} ({words.place(table)}); needs \\usepackage{{booktabs}}",
        rf"\begin{{tabular}}{{l{'r' * (width - 2)}l}}",
        r"\toprule",
        *_header(table.columns, paired),
        r"\midrule",
        *_body(table, paired, width),
        r"\bottomrule",
        *legend,
        r"\end{tabular}",
        *(f"% {' | '.join(line)}" for line in words.gain_lines(table)),
        *(f"% {line}" for line in (*words.order_lines(table), *table.notes)),
    ]
    return "\n".join(lines) + "\n"


def _header(columns: Sequence[Column], paired: set[str]) -> list[str]:
    if not paired:
        return [_line(["arm", *(text(column.title) for column in columns), "seeds"])]
    above, rules, below, at = [""], [], ["arm"], 2
    for column in columns:
        span = 2 if column.metric in paired else 1
        above.append(rf"\multicolumn{{{span}}}{{c}}{{{text(column.title)}}}")
        below += ["published", "measured"] if span == 2 else ["measured"]
        rules.append(rf"\cmidrule(lr){{{at}-{at + span - 1}}}")
        at += span
    return [_line([*above, ""]), " ".join(rules), _line([*below, "seeds"])]


def _body(table: Table, paired: set[str], width: int) -> list[str]:
    lines: list[str] = []
    before: Row | None = None
    for heading, rows in words.groups(table):
        for place, row in enumerate(rows):
            if before and (place == 0 or ((before.role == "teacher") and row.role != "teacher")):
                lines.append(r"\midrule")
            if place == 0 and heading:
                lines.append(_line([rf"\multicolumn{{{width}}}{{l}}{{\textit{{{text(heading)}}}}}"]))
            cells = [field for column in table.columns for field in _cell(row, column, column.metric in paired)]
            lines.append(_line([text(row.title), *cells, text(row.seeds)]))
            before = row
    return lines


def _cell(row: Row, column: Column, paired: bool) -> list[str]:
    """The published number, where the column has any, and the measured one."""
    cell, printed = row.cells.get(column.metric), row.printed.get(column.metric)
    measured = "$" + value(cell, column, r"\pm ", gain=printed is None) + "$" if cell else "--"
    if cell and cell.n < row.usual_n:
        measured += f" (n {cell.n})"
    mark = MARKS.get(printed.verdict) if printed and printed.verdict and cell else None
    measured += rf"\textsuperscript{{{mark}}}" if mark else ""
    published = f"${plain(printed.value, column)}$" if printed else ""
    return [published, measured] if paired else [measured]


def _legend(table: Table) -> str:
    used = {printed.verdict for row in table.shown for metric, printed in row.printed.items() if metric in row.cells}
    marks = [rf"\textsuperscript{{{mark}}} {verdict}" for verdict, mark in MARKS.items() if verdict in used]
    return ", ".join([*marks, r"$\pm$ 95\% $t$ interval over the seeds"])


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
