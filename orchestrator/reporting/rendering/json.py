"""A table as JSON: everything it knows. The schema's version rises when a field changes its meaning or goes."""

import json
import re
from dataclasses import asdict
from typing import Any

from orchestrator.reporting.statistics import Estimate
from orchestrator.reporting.summary import summary
from orchestrator.reporting.table import Cell, Printed, Row, Run, Table

SCHEMA = "retort.table/1"
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")  # what JSON leaves and a terminal may obey


def render(table: Table) -> str:
    text = json.dumps(as_data(table), indent=2, ensure_ascii=False, default=str)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def as_data(table: Table) -> dict[str, Any]:
    """The table as JSON data."""
    counts = summary(table)
    return {
        "schema": SCHEMA,
        "study": table.study,
        "name": table.name,
        "title": table.title,
        "table": table.table,
        "source": table.source.model_dump() if table.source else None,
        "state": str(table.state),
        "dataset": table.dataset,
        "scale": table.scale,
        "comparable": table.comparable,
        "url": table.url,
        "metrics": table.metrics,
        "columns": [column.model_dump() for column in table.columns],
        "rows": [_row(row) for row in table.rows],
        "claims": {
            "headline": table.claims.headline,
            "gains": [
                {
                    "row": gain.row,
                    "baseline": gain.baseline,
                    "metric": gain.metric,
                    "published": gain.published,
                    "measured": _estimate(gain.measured),
                    "claim": gain.standing,
                }
                for gain in table.claims.gains
            ],
            "orders": [asdict(order) | {"claim": order.standing} for order in table.claims.orders],
        },
        "summary": {"cells": counts.cells, "gains": counts.gains, "orders": counts.orders},
        "searches": [search.model_dump(mode="json") for search in table.searches],
        "provenance": asdict(table.provenance),
        "notes": list(table.notes),
    }


def _row(row: Row) -> dict[str, Any]:
    metrics = dict.fromkeys((*row.cells, *row.printed))
    return {
        "id": row.id,
        "title": row.title,
        "group": row.group,
        "role": row.role,
        "baseline": row.baseline,
        "difference": row.difference.model_dump() if row.difference else None,
        "hidden": row.hidden,
        "line": row.line,
        "confidence": row.confidence,
        "remark": row.remark,
        "values": dict(row.values),
        "cells": {metric: _cell(row.cells.get(metric), row.printed.get(metric)) for metric in metrics},
        "seeds_done": row.done,
        "runs": [_run(run) for run in row.runs],
        "measurements": [_run(run) for run in row.measurements],
    }


def _cell(cell: Cell | None, printed: Printed | None) -> dict[str, Any]:
    gain = cell.gain if cell else None
    return {
        "mean": cell.mean if cell else None,
        "half_width": cell.half_width if cell else None,
        "n": cell.n if cell else 0,
        "by_seed": dict(cell.by_seed) if cell else {},
        "gain": gain.mean if gain else None,
        "gain_half_width": gain.half_width if gain else None,
        "gain_n": gain.n if gain else 0,
        "published": printed.value if printed else None,
        "tolerance": printed.tolerance if printed else None,
        "confidence": printed.confidence if printed else None,
        "remark": printed.remark if printed else None,
        "published_gain": printed.gain if printed else None,
        "difference": printed.difference if printed else None,
        "verdict": printed.verdict if printed else None,
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {"mean": estimate.mean, "half_width": estimate.half_width, "n": estimate.n, "p": estimate.p, "by_seed": dict(estimate.by_seed)}


def _run(run: Run) -> dict[str, Any]:
    return {"trial": run.trial, "seed": run.seed, "state": str(run.state), "reason": run.reason, "url": run.url}
