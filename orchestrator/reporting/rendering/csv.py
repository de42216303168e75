"""A table as comma-separated values: a line a row, numbers in full."""

import csv
import io
from typing import Any

from orchestrator.reporting.table import Row, Table

PARTS = (
    "half_width",
    "n",
    "gain",
    "gain_half_width",
    "gain_n",
    "published",
    "tolerance",
    "published_gain",
    "difference",
    "verdict",
    "confidence",
    "remark",
)  # of a cell beside its mean


def render(table: Table) -> str:
    """Columns: the row, then METRIC and METRIC_PART for each metric, then its trials."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    per_metric = [name for metric in table.metrics for name in (metric, *(f"{metric}_{part}" for part in PARTS))]
    ends = ["seeds_done", "seeds", "failed", "cached", "line", "confidence", "remark", "hidden"]
    writer.writerow(["arm", "title", "group", "role", *per_metric, *ends])
    for row in table.rows:
        cells = [field for metric in table.metrics for field in _cell(row, metric)]
        told = [row.done, len(row.runs), len(row.failed), row.cached, row.line, row.confidence, row.remark, int(row.hidden)]
        writer.writerow([_inert(field) for field in (row.id, row.title, row.group, row.role, *cells, *told)])
    return out.getvalue()


def _cell(row: Row, metric: str) -> list[Any]:
    """The mean and what PARTS names, in their order."""
    cell, printed = row.cells.get(metric), row.printed.get(metric)
    measured = [cell.mean, cell.half_width, cell.n] if cell else [None] * 3
    gain = [cell.gain.mean, cell.gain.half_width, cell.gain.n] if cell and cell.gain else [None] * 3
    if printed is None:
        return [*measured, *gain, *[None] * 7]
    judged = [printed.value, printed.tolerance, printed.gain, printed.difference, printed.verdict]
    return [*measured, *gain, *judged, printed.confidence, printed.remark]


def _inert(field: Any) -> Any:
    """A text that a spreadsheet does not take for a formula."""
    return "'" + field if isinstance(field, str) and field[:1] in ("=", "+", "-", "@") else field
