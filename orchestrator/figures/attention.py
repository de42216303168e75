"""Spatial attention of student and teacher at several temperatures on the same images (Zhang & Ma, ICLR 2021, Fig. 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.figures.style import COLOURS, HEAT, canvas, nothing, number, without_frame, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Map = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Attended:
    """A row: an image and what a network attends to in it. image: (H, W, 3). maps: by T, each (h, w) of mean 1."""

    title: str
    image: Map
    maps: Mapping[float, Map]


def draw(rows: Sequence[Attended]) -> Figure:
    """A row each: the image, its map at each T, each on its own range, and how the values of the maps are distributed."""
    if not rows:
        return nothing("no attention is measured yet")
    temperatures = sorted({temperature for row in rows for temperature in row.maps})
    columns = 2 + len(temperatures)
    figure = canvas(1.75 * columns + 1.5, 1.8 * len(rows) + 0.6)
    axes = figure.subplots(len(rows), columns, squeeze=False, width_ratios=[1] * (columns - 1) + [1.5])
    for line, row in zip(axes, rows, strict=True):
        for axis in line[:-1]:
            without_frame(axis)
        line[0].imshow(row.image)
        line[0].set_ylabel(wrapped(row.title, 24), fontsize=8)
        for axis, temperature in zip(line[1:-1], temperatures, strict=True):
            if temperature in row.maps:
                axis.imshow(row.maps[temperature], cmap=HEAT)
                axis.annotate(f"max {row.maps[temperature].max():.3g}", (0.03, 0.03), xycoords="axes fraction", color="white", fontsize=7)
        for index, (temperature, drawn) in enumerate(sorted(row.maps.items())):
            values = np.sort(drawn.ravel())[::-1]
            ranks = np.arange(1, len(values) + 1) / len(values)
            line[-1].plot(
                ranks, np.maximum(values, 1e-4), color=COLOURS[index % len(COLOURS)], linewidth=1.3, label=f"T = {number(temperature)}"
            )
        line[-1].set_yscale("log")
        line[-1].yaxis.set_major_formatter(lambda value, _: number(value))
        line[-1].set_ylim(bottom=1e-4)
        line[-1].tick_params(labelsize=7)
    for axis, temperature in zip(axes[0][1:-1], temperatures, strict=True):
        axis.set_title(f"T = {number(temperature)}")
    axes[0][0].set_title("image")
    axes[0][-1].set_title("weight of a cell, mean 1")
    axes[-1][-1].set_xlabel("share of the cells", fontsize=8)
    axes[0][-1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0, handlelength=1.2)
    return figure
