"""A table as Markdown, aligned so that it reads as it is; what a title holds is shown and never acts."""

import re
from collections.abc import Sequence

from orchestrator.reporting.rendering import words
from orchestrator.reporting.rendering.numbers import compared
from orchestrator.reporting.table import Table

_ACTIVE = re.compile(r"[\\|`]|<(?=[A-Za-z/!?])|&(?=#?\w+;)|(?<=\])[(\[]")  # code, cells, HTML, entities, targets of links


def render(table: Table) -> str:
    """Head, table, gains and notes."""
    columns, body = table.columns, []
    for heading, rows in words.groups(table):
        if heading:
            body.append([f"**{text(heading)}**", *[""] * (len(columns) + 1)])
        for row in rows:
            cells = [compared(row.cells.get(c.metric), row.printed.get(c.metric), c, row.usual_n) for c in columns]
            body.append([text(row.title), *cells, row.seeds])
    parts = [[f"**{text(table.title)}** ({words.place(table)})"], grid(["arm", *(text(c.title) for c in columns), "seeds"], body)]
    if gains := words.gain_lines(table):
        column = words.headline(table)
        assert column
        parts.append([f"**Gains in {text(column.title)}**"])
        parts.append(grid(words.GAIN_HEADER, [[text(field) for field in line] for line in gains]))
    told = [*words.legend(table), *filter(None, [words.counted(table)]), *words.order_lines(table), *table.notes, *words.links(table)]
    if told:
        parts.append([f"- {text(line)}" for line in told])
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def grid(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """The lines of an aligned table, of fields that are Markdown already."""
    widths = [max(len(line[i]) for line in (header, *body)) for i in range(len(header))]
    lines = ["| " + " | ".join(field.ljust(width) for field, width in zip(line, widths, strict=True)) + " |" for line in (header, *body)]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [lines[0], rule, *lines[1:]]


def text(line: str) -> str:
    """One line of plain text as Markdown that shows it."""
    return _ACTIVE.sub(lambda found: "\\" + found[0], line)
