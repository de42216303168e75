"""A table as one HTML page that needs nothing else: light and dark, rows as cards on a narrow screen, verdicts in words and colour."""

from html import escape

from orchestrator.reporting.rendering import words
from orchestrator.reporting.rendering.numbers import NOTHING, missed_by, plain, value
from orchestrator.reporting.table import Row, Table
from studies.presentation import Column

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #5b6570; --rule: #d5dae0; --back: #fff; --band: #f3f5f7;
  --good: #12652f; --good-back: #def5e4; --bad: #9b1c1c; --bad-back: #fde4e1; --open: #6b4e00; --open-back: #fbf0cf; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --faint: #9aa5b1; --rule: #3a424b; --back: #14181c; --band: #1e242a;
  --good: #8fe0a8; --good-back: #163a22; --bad: #ffb0a8; --bad-back: #4a1d1b; --open: #f0d68a; --open-back: #40330e; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1.5rem; color: var(--ink); background: var(--back); font: 15px/1.45 system-ui, sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.3rem; margin: 0; }
h2 { font-size: 1.05rem; margin: 1.6rem 0 .5rem; }
.notes, .faint { color: var(--faint); }
h1 + p { color: var(--faint); margin: .2rem 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; vertical-align: baseline; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, .text { text-align: left; }
thead th { border-bottom: 2px solid var(--ink); }
tbody th { font-weight: 500; white-space: normal; min-width: 11rem; }
tr.teacher { color: var(--faint); }
tr.group th { background: var(--band); font-weight: 700; text-align: left; }
.part { display: block; }
.verdict { font-size: .8rem; padding: 0 .4em; border-radius: .6em; background: var(--band); color: var(--faint); }
.reproduced, .holds { background: var(--good-back); color: var(--good); }
.off, .contradicted { background: var(--bad-back); color: var(--bad); }
.undecided { background: var(--open-back); color: var(--open); }
a { color: inherit; }
ul { padding-left: 1.2rem; max-width: 60rem; }
li { margin: .2rem 0; }
@media (max-width: 700px) {
  body { padding: 1rem; }
  table, tbody, tr, th, td { display: block; }
  thead { display: none; }
  tbody tr { border: 1px solid var(--rule); border-radius: .5rem; margin: 0 0 .8rem; padding: .5rem .8rem; }
  tbody tr.group { border: 0; padding: 0; margin: 1.2rem 0 .5rem; }
  tbody th, tbody td { border: 0; padding: .15rem 0; white-space: normal; }
  tbody th { font-weight: 700; }
  tr.group th { padding: .3rem .8rem; border-radius: .5rem; }
  tbody td, td.text { display: flex; gap: .8rem; justify-content: space-between; text-align: right; }
  .part { display: inline; margin-left: .5rem; }
  td::before { content: attr(data-label); color: var(--faint); text-align: left; flex: none; max-width: 45%; }
}
"""


def render(table: Table) -> str:
    """The whole page."""
    title = escape(table.title)
    source = f"<p>{escape(_place(table))}</p>"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><h1>{title}</h1>{source}\n{_rows(table)}{_gains(table)}{_notes(table)}"
        "</body></html>\n"
    )


def _place(table: Table) -> str:
    return words.place(table) + (f", {table.state}" if not table.state.final else "")


def _rows(table: Table) -> str:
    head = "".join(f"<th>{escape(field)}</th>" for field in ("arm", *(c.title for c in table.columns))) + '<th class="text">seeds</th>'
    body = []
    for heading, rows in words.groups(table):
        if heading:
            body.append(f'<tr class="group"><th colspan="{len(table.columns) + 2}">{escape(heading)}</th></tr>')
        body += [_row(row, table) for row in rows]
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{"".join(body)}</tbody></table></div>\n'


def _row(row: Row, table: Table) -> str:
    cells = "".join(f'<td data-label="{escape(column.title)}">{_cell(row, column)}</td>' for column in table.columns)
    linked = " ".join(f'<a href="{escape(run.url)}">{run.seed}</a>' for run in row.runs if run.url)
    seeds = f"<span>{escape(row.seeds)}" + (f" · runs: {linked}" if linked else "") + "</span>"
    of = escape(table.source.lines or "") if table.source else ""
    line = f' <span class="faint" title="{of}">line {escape(row.line)}</span>' if row.line else ""
    title = f'<th scope="row">{escape(row.title)}{line}</th>'
    return f'<tr class="{escape(row.role)}">{title}{cells}<td class="text" data-label="seeds">{seeds}</td></tr>\n'


def _cell(row: Row, column: Column) -> str:
    """Published and measured side by side, then the verdict."""
    cell, printed = row.cells.get(column.metric), row.printed.get(column.metric)
    if cell is None and printed is None:
        return NOTHING
    measured = escape(value(cell, column, gain=printed is None)) if cell else NOTHING
    if cell and cell.n < row.usual_n:
        measured += f' <span class="faint">n {cell.n}</span>'
    if printed is None:
        return f"<span>{measured}</span>"
    hint = "; ".join(filter(None, (printed.confidence, printed.remark)))
    published = f'<span class="faint" title="{escape(hint)}">{plain(printed.value, column)}{"*" if hint else ""} →</span>'
    missed = f' <span class="faint">({off})</span>' if (off := missed_by(printed, column)) else ""
    verdict = f'<span class="part">{_badge(printed.verdict)}</span>' if printed.verdict else ""
    return f"<span>{published} {measured}{missed}{verdict}</span>"


def _badge(word: str) -> str:
    return f'<span class="verdict {escape(word.replace(" ", "-"))}">{escape(word)}</span>'


def _gains(table: Table) -> str:
    column, lines = words.headline(table), words.gain_lines(table)
    if not lines or column is None:
        return ""
    head = "".join(f"<th>{field}</th>" for field in words.GAIN_HEADER)
    body = []
    for row, *fields, standing in lines:
        cells = "".join(f'<td data-label="{name}">{escape(field)}</td>' for name, field in zip(words.GAIN_HEADER[1:], fields, strict=False))
        body.append(f'<tr><th scope="row">{escape(row)}</th>{cells}<td data-label="claim">{_badge(standing)}</td></tr>\n')
    title = f"<h2>Gains in {escape(column.title)}</h2>"
    return f'{title}<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{"".join(body)}</tbody></table></div>\n'


def _notes(table: Table) -> str:
    told = [*words.legend(table, marked=False), *filter(None, [words.counted(table)]), *words.order_lines(table), *table.notes]
    link = f'<li><a href="{escape(table.url)}">The study in MLflow</a></li>' if table.url else ""
    return f'<ul class="notes">{"".join(f"<li>{escape(line)}</li>" for line in told)}{link}</ul>' if told or link else ""
