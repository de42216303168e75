"""The view of an experiment that MLflow opens with our links: which columns, how its runs are grouped, and which charts.

MLflow (3.17) keeps a prepared view as JSON in a tag of the experiment. It leaves out which runs are unfolded, so the runs are
grouped by arm instead: a group shows its seeds' means.
"""

import json
from typing import Any

from orchestrator.reporting.links import VIEW

DIFFERENCE = "difference"  # metric of a run: AP minus its baseline's of the same seed
# Widths in pixels: a window of 1440 shows all of them, beside MLflow's menu and the assistant that it opens in a fresh browser.
PINNED = {"attributes.`Run Name`": 190, "runDateAndNestInfo": 105}
COLUMNS = {
    "tags.`arm`": 110,
    "tags.`seed`": 50,
    **{f"metrics.`{name}`": 65 for name in ("AP", "AP50", "AP75")},
    f"metrics.`{DIFFERENCE}`": 90,
}
CHARTS = {"AP by epoch": ["AP"], "Loss by epoch": ["loss"], "Losses by epoch": ["loss_cls", "loss_bbox", "loss_dfl"]}
SECTION = "retort-training"
SECTION_TITLE = "AP and losses"  # MLflow sorts by it, and makes a section of `step/...` by itself: charts by epoch come first


def view_tags() -> dict[str, str]:
    """The tag of an experiment that holds the prepared view."""
    state = {
        "selectedColumns": list(COLUMNS),
        "columnOrder": [*PINNED, *COLUMNS],
        "columnWidths": PINNED | COLUMNS,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "arm"}]},
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [
            {"uuid": SECTION, "name": SECTION_TITLE, "display": True, "isReordered": False, "deleted": False, "isGenerated": False}
        ],
        "compareRunCharts": [_chart(title, metrics) for title, metrics in CHARTS.items()],
    }
    return {f"mlflow.sharedViewState.{VIEW}": json.dumps(state)}


def _chart(title: str, metrics: list[str]) -> dict[str, Any]:
    return {
        "type": "LINE",
        "uuid": title.lower().replace(" ", "-"),
        "displayName": title,
        "metricSectionId": SECTION,
        "metricKey": metrics[0],
        "selectedMetricKeys": metrics,
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
        "runsCountToCompare": 10,
        "useGlobalLineChartConfig": False,
        "deleted": False,
        "isGenerated": False,
    }
