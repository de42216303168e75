"""The factors of a search and the metric at their values, from the rows of a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.figures.sensitivity import Factor, Point
from orchestrator.reporting.table import Row


def factors_of(rows: Sequence[Row], metric: str, detail: Callable[[Row], Mapping[str, Any]]) -> list[Factor]:
    """Each searched factor of each arm. detail: a row's stored arm, which tells the value of a factor that the row leaves as it is.

    Where several factors vary together, a value's point is the mean over the rows that have it.
    """
    arms: dict[str, list[Row]] = {}
    for row in rows:
        if row.role == "distilled" and metric in row.cells:
            arms.setdefault(row.id.partition("~")[0], []).append(row)
    factors = []
    for own in arms.values():
        paths = dict.fromkeys(path for row in own for path in row.values)
        for path in paths:
            points = list(_points(own, path, metric, detail))
            if len(points) > 1:
                title = own[0].title.partition(" [")[0]
                name = path.removeprefix("options.")
                factors.append(Factor(f"{name} of {title}" if len(arms) > 1 else name, points))
    return factors


def _points(rows: Sequence[Row], path: str, metric: str, detail: Callable[[Row], Mapping[str, Any]]) -> Iterable[Point]:
    at: dict[str, list[Row]] = {}
    for row in rows:
        if path in row.values or not row.values:  # of a sweep, the other factors' rows say nothing of this one
            value = row.values[path] if path in row.values else _usual(detail(row), path)
            if value is not None:
                at.setdefault(json.dumps(value), []).append(row)
    for text, found in at.items():
        cells = [row.cells[metric] for row in found]
        half_width = cells[0].half_width if len(cells) == 1 else None
        yield Point(json.loads(text), sum(cell.mean for cell in cells) / len(cells), half_width)


def _usual(detail: Mapping[str, Any], path: str) -> Any:
    """The value that an arm has of itself, of an option or weight of its only distiller."""
    uses = detail["distillers"]
    if len(uses) != 1:
        return None
    return uses[0].get("weight") if path == "weight" else uses[0]["options"].get(path.removeprefix("options."))
