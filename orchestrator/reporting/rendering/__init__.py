"""A table as text, in five formats. Texts of people come as one line each; a format makes them inert in its own syntax."""

from collections.abc import Callable
from typing import Literal, get_args

from orchestrator.reporting.rendering import csv, html, json, markdown, tex
from orchestrator.reporting.table import Table

Format = Literal["md", "csv", "json", "tex", "html"]
FORMATS: tuple[Format, ...] = get_args(Format)
CONTENT_TYPES: dict[str, str] = {
    "md": "text/markdown; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "tex": "application/x-tex; charset=utf-8",
    "html": "text/html; charset=utf-8",
}
_RENDERERS: dict[Format, Callable[[Table], str]] = {
    "md": markdown.render,
    "csv": csv.render,
    "json": json.render,
    "tex": tex.render,
    "html": html.render,
}


def render(table: Table, format: Format) -> str:
    """The table as text, ending in a newline."""
    return _RENDERERS[format](table)
