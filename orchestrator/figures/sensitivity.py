"""Sensitivity to each factor of a search: the metric by the factor's values, the rest as it is (Zhang & Ma, ICLR 2021, Fig. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import FixedLocator, NullLocator

from orchestrator.figures.style import COLOURS, GREY, grid, nothing, number, span, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Point:
    """The metric at one value of a factor. half_width: of the 95% interval, None with one seed."""

    value: Any
    mean: float
    half_width: float | None = None


@dataclass(frozen=True)
class Factor:
    """A factor by its name and its points."""

    title: str
    points: Sequence[Point]


def draw(factors: Sequence[Factor], metric: str, baseline: float | None = None) -> Figure:
    """One panel a factor, all on one scale of the metric. baseline: of the student without a distiller, as a line.

    Numbers that span a decade stand on a logarithmic axis; what is no number stands side by side.
    """
    factors = [factor for factor in factors if factor.points]
    if not factors:
        return nothing(f"no value of a factor has {metric} yet")
    figure, axes = grid(len(factors), 4, 3.1, 2.9)
    for index, (factor, axis) in enumerate(zip(factors, axes, strict=True)):
        points = sorted(factor.points, key=_order)
        values = [point.value for point in points]
        numeric = all(_is_number(value) for value in values)
        places = values if numeric else range(len(values))
        errors = [point.half_width or 0.0 for point in points]
        means = [point.mean for point in points]
        axis.errorbar(
            places,
            means,
            yerr=errors if any(errors) else None,
            fmt="o-" if numeric else "o",
            color=COLOURS[index % 6],
            capsize=3,
            markersize=4.5,
        )
        if numeric and span(values) >= 10:
            axis.set_xscale("log")
            axis.xaxis.set_minor_locator(NullLocator())
        if len(values) <= 8:
            axis.xaxis.set_major_locator(FixedLocator(list(places)))
            axis.set_xticks(
                list(places), [number(v) if _is_number(v) else wrapped(str(v), 12) for v in values], rotation=35 if len(values) > 4 else 0
            )
        if baseline is not None:
            axis.axhline(baseline, color=GREY, linestyle="--", linewidth=1.2)
            axis.annotate("baseline", (0.02, baseline), xycoords=("axes fraction", "data"), color=GREY, fontsize=8, va="bottom")
        axis.set_xlabel(wrapped(factor.title, 30))
    low, high = _limits([point for factor in factors for point in factor.points], baseline)
    for axis in axes:
        axis.set_ylim(low, high)
        axis.set_ylabel(metric)
    return figure


def _limits(points: Sequence[Point], baseline: float | None) -> tuple[float, float]:
    ends = [p.mean + sign * (p.half_width or 0.0) for p in points for sign in (-1, 1)] + ([] if baseline is None else [baseline])
    margin = 0.08 * (max(ends) - min(ends)) or 0.05 * abs(ends[0]) or 1.0
    return min(ends) - margin, max(ends) + margin


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _order(point: Point) -> tuple[int, float, str]:
    return (0, point.value, "") if _is_number(point.value) else (1, 0.0, str(point.value))
