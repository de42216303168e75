"""Precision by recall with kinds of error forgiven one after another, by area, as COCO's analysis draws it (Zhang & Ma, 2021, Fig. 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.figures.style import grid, nothing, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curves = Mapping[str, Sequence[float]]  # by COCO's name, strictest first; precision at equidistant recalls from 0 to 1
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


def mean(curves: Sequence[Curves]) -> Curves:
    """The mean curves of several trials (seeds of an arm)."""
    return {name: np.mean([each[name] for each in curves], axis=0).tolist() for name in LABELS}


def draw(panels: Sequence[tuple[str, Curves]], per_row: int = PER_ROW) -> Figure:
    """One panel each, under its title, of the first MOST. per_row: as many as an arm has areas, so that each has a row.

    The areas between neighbours are what each kind of error costs; the legend gives the AP of each curve in percent.
    """
    if not panels:
        return nothing("no errors are analysed yet")
    left_out, panels = len(panels) - MOST, panels[:MOST]
    figure, axes = grid(len(panels), per_row, 3.6, 3.4)
    if left_out > 0:
        figure.suptitle(f"the first {MOST} of {MOST + left_out}")
    for axis, (title, curves) in zip(axes, panels, strict=True):
        recalls = np.linspace(0.0, 1.0, len(curves["FN"]))
        below: Sequence[float] = [0.0] * len(recalls)
        for colour, name in zip(COLOURS, LABELS, strict=True):
            precision = curves[name]
            label = f"{LABELS[name]}: {100 * float(np.mean(precision)):.1f}"
            axis.fill_between(recalls, below, precision, facecolor=colour, edgecolor="black", linewidth=0.6, label=label)
            below = precision
        axis.set_title(wrapped(title, 40))
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision")
        axis.legend(loc="lower left", fontsize=7, frameon=True, framealpha=0.85)
    return figure
