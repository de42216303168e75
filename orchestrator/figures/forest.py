"""A forest plot: each arm's gain over the student without a distiller, with its 95% interval, beside the published gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.figures.style import COLOURS, GREY, canvas, nothing, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Gain:
    """A row. gain: None where it has no result yet. half_width: of the 95% interval, None with one seed. published: the paper's gain."""

    title: str
    gain: float | None
    half_width: float | None = None
    published: float | None = None
    seeds: str = ""


def draw(gains: Sequence[Gain], metric: str) -> Figure:
    """Rows from top to bottom as given."""
    rows = [gain for gain in gains if gain.gain is not None or gain.published is not None]
    if not rows:
        return nothing(f"no arm has a gain in {metric} yet")
    figure = canvas(8.6, 1.3 + 0.34 * len(rows))
    axis = figure.subplots()
    axis.axvline(0, color=GREY, linewidth=1)
    for place, row in enumerate(rows):
        if row.gain is not None:
            axis.errorbar(
                row.gain, place, xerr=row.half_width, fmt="o", color=COLOURS[0], markersize=5.5, capsize=3, linewidth=1.6, zorder=3
            )
        if row.published is not None:
            axis.plot(
                row.published, place, marker="D", markersize=6.5, markerfacecolor="none", markeredgecolor=COLOURS[1], linestyle="none"
            )
    axis.plot([], [], "o", color=COLOURS[0], label="measured here, with 95% interval")
    if any(row.published is not None for row in rows):
        axis.plot([], [], "D", markerfacecolor="none", markeredgecolor=COLOURS[1], linestyle="none", label="published")
    axis.set_yticks(range(len(rows)), [wrapped(row.title, 44) + (f"  ({row.seeds})" if row.seeds else "") for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(f"gain in {metric} over the student without a distiller")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure
