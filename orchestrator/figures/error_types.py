"""Precision by recall with kinds of error forgiven one after another, by area, as COCO's analysis draws it (Zhang & Ma, 2021, Fig. 7)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.figures.style import grid, nothing, wrapped
from orchestrator.records.schema import Trial
from orchestrator.storage.files import TrialFiles, beside
from studies.trial import ERROR_CURVES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curves = Mapping[str, Sequence[float]]  # by COCO's name, strictest first; precision at equidistant recalls from 0 to 1
ByArea = Mapping[str, Curves]
LABELS = {
    "C75": "IoU 0.75",
    "C50": "IoU 0.50",
    "Loc": "localisation forgiven",
    "Sim": "similar classes too",
    "Oth": "other classes too",
    "BG": "background too",
    "FN": "missed too",
}
COLOURS = ("#ffffff", "#c6dbef", "#6baed6", "#fdd0a2", "#fd8d3c", "#bcbddc", "#fff7bc")  # what each curve adds to the one before
PER_ROW, MOST = 4, 24  # panels


def read(trial: Trial, files: TrialFiles) -> Curves | None:
    """The curves that a training left beside its checkpoint; None where there are none, as in a dataset without objects. Raises
    StorageError."""
    if not trial.checkpoint or not trial.metrics:
        return None
    try:
        path = files.local(beside(trial.checkpoint, ERROR_CURVES))
        curves = json.loads(path.read_text()) if path else {}
        return {name: curves[name] for name in LABELS}
    except (OSError, ValueError, KeyError):
        return None


def mean(curves: Sequence[Curves]) -> Curves:
    """The mean curves of several trials (seeds of an arm)."""
    return {name: np.mean([each[name] for each in curves], axis=0).tolist() for name in LABELS}


def mean_by_area(curves: Sequence[ByArea]) -> ByArea:
    """Likewise, of the areas that all have."""
    areas = [area for area in curves[0] if all(area in each for each in curves)]
    return {area: mean([each[area] for each in curves]) for area in areas}


def draw(arms: Sequence[tuple[str, ByArea]], areas: int = 1) -> Figure:
    """A panel for each area of each arm, of the first MOST. areas: panels of an arm; with more than one each arm has a row.

    The areas between neighbours are what each kind of error costs; the legend gives the AP of each curve in percent.
    """
    every = [(title, area, curves) for title, by_area in arms for area, curves in by_area.items()]
    if not every:
        return nothing("no errors are analysed yet")
    panels, left_out = every[:MOST], len(every) - MOST
    figure, axes = grid(len(panels), areas if areas > 1 else PER_ROW, 3.6, 3.4)
    if left_out > 0:
        figure.suptitle(f"the first {MOST} of {MOST + left_out}")
    for axis, (title, area, curves) in zip(axes, panels, strict=True):
        recalls = np.linspace(0.0, 1.0, len(curves["FN"]))
        below: Sequence[float] = [0.0] * len(recalls)
        for colour, name in zip(COLOURS, LABELS, strict=True):
            precision = curves[name]
            label = f"{LABELS[name]}: {100 * float(np.mean(precision)):.1f}"
            axis.fill_between(recalls, below, precision, facecolor=colour, edgecolor="black", linewidth=0.6, label=label)
            below = precision
        axis.set_title(wrapped(title, 40) + (f"\n{area} objects" if areas > 1 else ""))
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision")
        axis.legend(loc="lower left", fontsize=7, frameon=True, framealpha=0.85)
    return figure
