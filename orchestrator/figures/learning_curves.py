"""Learning curves of all arms: a metric by epoch, the mean of an arm's seeds in a band from the least to the greatest of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from orchestrator.figures.style import canvas, legend_beside, legend_columns, look, nothing, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Curve:
    """An arm: for every seed the metric by epoch (from 1)."""

    title: str
    seeds: Mapping[int, Mapping[int, float]]


def draw(curves: Sequence[Curve], metric: str) -> Figure:
    """One line an arm over the epochs that all of its seeds have."""
    drawn = [(curve.title, band) for curve in curves if (band := bands(curve))]
    if not drawn:
        return nothing(f"no epoch with {metric} yet")
    figure = canvas(8.6 + 2.4 * (legend_columns(len(drawn)) - 1), max(4.2, 1.2 + 0.22 * min(len(drawn), 18)))
    axis = figure.subplots()
    for index, (title, band) in enumerate(drawn):
        epochs, low, mean, high = (list(column) for column in zip(*band, strict=True))
        style = look(index)
        axis.fill_between(epochs, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axis.plot(epochs, mean, label=wrapped(title), linewidth=1.6, marker="o" if len(epochs) <= 30 else None, markersize=2.8, **style)
    axis.set(xlabel="epoch", ylabel=metric)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(known := {epoch for _, band in drawn for epoch, *_ in band}) == 1:
        axis.set_xlim(min(known) - 0.5, max(known) + 0.5)
    axis.set_title("mean of the seeds; the band goes from the lowest to the highest", loc="left", fontsize=8)
    legend_beside(axis, len(drawn))
    return figure


def bands(curve: Curve) -> list[tuple[int, float, float, float]]:
    """(epoch, least, mean, greatest) over the seeds, of the epochs that all have."""
    seeds = [values for values in curve.seeds.values() if values]
    shared = sorted(set.intersection(*(set(values) for values in seeds))) if seeds else []
    return [(epoch, min(at), sum(at) / len(at), max(at)) for epoch in shared for at in [[values[epoch] for values in seeds]]]
