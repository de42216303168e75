"""What backbone, neck and head cost: parameters and multiply-adds of every network as stacked bars (PDF-Distil, BMVC 2021, Fig. 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.figures.style import COLOURS, canvas, nothing, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = ("backbone", "neck", "head")
WHAT = {"Params": "parameters (millions)", "FLOPs": "multiply-adds (milliards)"}


@dataclass(frozen=True)
class Cost:
    """A network: the metrics `Params_PART` in millions and `FLOPs_PART` in milliards."""

    title: str
    metrics: Mapping[str, float]


def draw(costs: Sequence[Cost]) -> Figure:
    """Networks from top to bottom, parameters on the left, multiply-adds on the right."""
    if not costs:
        return nothing("no network's costs are measured yet")
    figure = canvas(9.4, 1.5 + 0.42 * len(costs))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (what, label) in zip(axes, WHAT.items(), strict=True):
        left = [0.0] * len(costs)
        for colour, part in zip(COLOURS, PARTS, strict=False):
            values = [cost.metrics[f"{what}_{part}"] for cost in costs]
            axis.barh(range(len(costs)), values, left=left, height=0.62, color=colour, label=part, edgecolor="white", linewidth=0.6)
            left = [before + value for before, value in zip(left, values, strict=True)]
        for place, total in enumerate(left):
            axis.annotate(f"{total:.3g}", (total, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
        axis.set_xlabel(label)
        axis.set_xlim(0, 1.14 * max(left))
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(costs)), [wrapped(cost.title, 40) for cost in costs])
    axes[0].set_ylim(len(costs) - 0.5, -0.5)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3)
    return figure
