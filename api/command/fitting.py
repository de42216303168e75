"""A table of text in a terminal: as it is where it fits, else row after row with as many cells on a line as there is room for."""

import re
import textwrap

_BARS = re.compile(r"(?<!\\)\|")


def fitted(markdown: str, width: int) -> str:
    """Markdown with its tables and lists no wider than `width` columns, as far as words allow."""
    lines, out, at = markdown.rstrip("\n").split("\n"), [], 0
    while at < len(lines):
        end = at
        while end < len(lines) and lines[end].startswith("|"):
            end += 1
        if end == at:
            out.append(_wrapped(lines[at], width))
            at += 1
            continue
        table = lines[at:end]
        out += table if max(map(len, table)) <= width else _row_by_row(table, width)
        at = end
    return "\n".join(out)


def _wrapped(line: str, width: int) -> str:
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or line


def _row_by_row(table: list[str], width: int) -> list[str]:
    """A row as its title, and below it its cells, each named by its column; a row of nothing but a title is a heading."""
    header, _, *body = [[field.strip() for field in _BARS.split(line)[1:-1]] for line in table]
    out: list[str] = []
    for title, *cells in body:
        told = [f"{name} {cell}" for name, cell in zip(header[1:], cells, strict=True) if cell]
        if not told:
            out += ["", title]
            continue
        out.append(f"* {title}")
        out += _in_columns(told, width)
    return out


def _in_columns(fields: list[str], width: int) -> list[str]:
    room = max(map(len, fields)) + 3
    count = max(1, (width - 4 + 3) // room)
    rows = [fields[start : start + count] for start in range(0, len(fields), count)]
    return [("    " + "".join(field.ljust(room) for field in row)).rstrip() for row in rows]
