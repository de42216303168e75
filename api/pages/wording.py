"""How pages say things: times and spans in words, marks beside colours, numbers as tables print them."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import yaml

from orchestrator.reporting.rendering import numbers, words
from studies.inert import one_line
from studies.space import told

# A shape beside every colour, so that none has to be told by colour alone.
MARKS = {
    "reproduced": "✓",
    "holds": "✓",
    "off": "✗",
    "contradicted": "✗",
    "undecided": "?",
    "missing": "–",  # noqa: RUF001
    "not comparable": "≠",
    "queued": "◷",
    "waiting": "◷",
    "ready": "◷",
    "running": "▶",
    "cancelling": "◼",
    "cancelled": "◼",
    "finished": "✓",
    "cached": "✓",
    "stopped": "✓",
    "failed": "✗",
    "submitted": "✓",
    "skipped": "◼",
    "replaced": "◼",
    "paused": "◼",
}


def span(seconds: float | None) -> str:
    """ "40 s", "12 min", "3.5 h", "6 days"."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{round(seconds / 86400)} days"


def stamp(milliseconds: int | None) -> str:
    """ "2026-11-21 16:40 UTC"."""
    return "" if milliseconds is None else f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M UTC}"


def ago(milliseconds: int | None) -> str:
    """ "12 min ago"."""
    if milliseconds is None:
        return ""
    seconds = time.time() - milliseconds / 1000
    return "just now" if seconds < 10 else f"{span(seconds)} ago"


def kebab(word: str) -> str:
    """A verdict or state as a CSS class."""
    return word.replace(" ", "-")


def as_yaml(data: Any) -> str:
    """Plain data as YAML, in its own order."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)


def as_short_yaml(data: Any) -> str:
    """Plain data as YAML without what is empty, where that is the same as not to say it."""
    return as_yaml(_without_empty(data))


def _without_empty(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _without_empty(value) for name, value in data.items() if value not in (None, {}, [])}
    return [_without_empty(value) for value in data] if isinstance(data, list) else data


def drawn(values: dict[str, Any], name: str) -> str:
    """A drawn value without its name: "7.25"."""
    return told({name: values[name]}).partition("=")[2] if name in values else ""


def segment(text: str) -> str:
    """Text as a part of an address; slashes stay."""
    return quote(text, safe="/")


FILTERS: dict[str, Callable[..., Any]] = {
    "span": span,
    "stamp": stamp,
    "ago": ago,
    "kebab": kebab,
    "line": one_line,
    "yaml": as_short_yaml,
    "segment": segment,
    "drawn": drawn,
}
GLOBALS: dict[str, Any] = {"MARKS": MARKS, "numbers": numbers, "words": words}
