"""Precision by recall with kinds of error forgiven one after another, drawn as COCO's analysis does (Zhang & Ma, ICLR 2021, Fig. 7)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.schema import Trial
from studies.trial import ERROR_CURVES

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


def read(trial: Trial) -> Curves | None:
    """The curves that a trial left beside its checkpoint; None where there are none, as in a dataset without objects."""
    if not trial.checkpoint:
        return None
    try:
        curves = json.loads((Path(trial.checkpoint).parent / ERROR_CURVES).read_text())
        return {name: curves[name] for name in LABELS}
    except (OSError, ValueError, KeyError):
        return None


def mean(curves: Sequence[Curves]) -> Curves:
    """The mean curves of several trials (seeds of an arm)."""
    return {name: np.mean([each[name] for each in curves], axis=0).tolist() for name in LABELS}


def draw(panels: Sequence[tuple[str, Curves]]) -> Figure:
    """One panel each, under its title, of the first MOST.

    The areas between neighbours are what each kind of error costs; the legend gives the AP of each curve in percent.
    """
    from matplotlib.figure import Figure

    left_out, panels = len(panels) - MOST, panels[:MOST]
    columns = min(PER_ROW, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.8 * rows), layout="constrained")
    if left_out > 0:
        figure.suptitle(f"the first {MOST} of {MOST + left_out}")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[len(panels) :]:
        spare.remove()
    for axis, (title, curves) in zip(axes, panels, strict=False):
        recalls = np.linspace(0.0, 1.0, len(curves["FN"]))
        below: Sequence[float] = [0.0] * len(recalls)
        for colour, (name, precision) in zip(COLOURS, curves.items(), strict=True):
            label = f"{LABELS[name]}: {100 * float(np.mean(precision)):.1f}"
            axis.fill_between(recalls, below, precision, facecolor=colour, edgecolor="black", linewidth=0.6, label=label)
            below = precision
        axis.set_title(title, parse_math=False)  # a study's own words, which may hold dollars
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision")
        axis.legend(loc="lower left", fontsize="x-small", framealpha=0.85)
    return figure
