"""Does a better teacher teach better? Students' AP by their teachers' AP, with the least-squares line (Zhang & Ma, ICLR 2021, Fig. 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from orchestrator.figures.style import COLOURS, MARKERS, canvas, legend_beside, nothing, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Pair:
    """A taught student. student: whose points one line goes through (network and method); teacher: as listed beside the panel."""

    student: str
    teacher: str
    teacher_ap: float
    student_ap: float


def draw(pairs: Sequence[Pair], metric: str, baselines: Mapping[str, float] | None = None) -> Figure:
    """Points and a line for each student; a point has the number of its teacher, in the order of their AP. baselines: AP of a student that
    learns alone, as a line of its colour."""
    if not pairs:
        return nothing(f"no student and its teacher have {metric} yet")
    figure = canvas(8.2, 4.8)
    axis = figure.subplots()
    students = list(dict.fromkeys(pair.student for pair in pairs))
    ordered = sorted(pairs, key=lambda pair: pair.teacher_ap)
    numbers = {name: place for place, name in enumerate(dict.fromkeys((pair.teacher, pair.teacher_ap) for pair in ordered), 1)}
    for index, student in enumerate(students):
        own = [pair for pair in pairs if pair.student == student]
        x, y = (np.array([getattr(pair, name) for pair in own]) for name in ("teacher_ap", "student_ap"))
        colour = COLOURS[index % len(COLOURS)]
        fitted = regression(x, y)
        told = f"r = {fitted[2]:+.2f}, n = {len(own)}" if fitted else f"n = {len(own)}"
        axis.plot(x, y, MARKERS[index % len(MARKERS)], color=colour, markersize=6, label=f"{wrapped(student)}\n{told}")
        if fitted:
            ends = np.array([x.min(), x.max()])
            axis.plot(ends, fitted[0] * ends + fitted[1], color=colour, linewidth=1.4)
        if baselines and student in baselines:
            axis.axhline(baselines[student], color=colour, linestyle=":", linewidth=1.2)
    at: dict[tuple[float, float], set[int]] = {}
    for pair in pairs:
        at.setdefault((pair.teacher_ap, pair.student_ap), set()).add(numbers[pair.teacher, pair.teacher_ap])
    for point, alike in at.items():
        axis.annotate(", ".join(map(str, sorted(alike))), point, xytext=(5, 4), textcoords="offset points", fontsize=8)
    if baselines:
        axis.plot([], [], ":", color="black", label="the student alone")
    for (teacher, _), place in numbers.items():
        axis.plot([], [], " ", label=f"{place}  {wrapped(teacher)}")
    axis.margins(0.1)
    axis.set(xlabel=f"{metric} of the teacher", ylabel=f"{metric} of the student")
    legend_beside(axis, len(students) + len(numbers))
    return figure


def regression(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """(slope, intercept, Pearson's r) of the least-squares line; None with fewer than three points or without spread."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(intercept), float(np.corrcoef(x, y)[0, 1])
