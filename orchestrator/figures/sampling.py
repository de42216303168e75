"""Where each distiller samples the same image: the weights of its cells, over all levels (PDF-Distil, BMVC 2021, Figs. 1 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.figures.style import HEAT, canvas, nothing, without_frame, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Map = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sampled:
    """A panel. image: (H, W, 3) as the network saw it in shape, boxes: of its objects, xyxy in its pixels.

    levels: weights per level, each (h, w); all of them sum to 1. shape: (height, width) in pixels that the maps cover.
    """

    title: str
    image: Map
    boxes: Sequence[Sequence[float]]
    levels: Sequence[Map]
    shape: tuple[int, int]


def draw(rows: Sequence[Sequence[Sampled]]) -> Figure:
    """One row an image, one panel a method; the first panel is the image. Each map is on its own range, its peak above it."""
    if not rows or not any(rows):
        return nothing("no sampling weights are measured yet")
    columns = 1 + max(len(row) for row in rows)
    figure = canvas(2.15 * columns, 2.35 * len(rows) + 0.3)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for axis in line:
            without_frame(axis)
        line[0].imshow(row[0].image)
        outline(line[0], row[0].boxes)
        line[0].set_title("image")
        for axis, panel in zip(line[1:], row, strict=False):
            dense = density(panel.levels, panel.shape)
            axis.imshow(np.asarray(panel.image).mean(2), cmap="gray", extent=(0, panel.image.shape[1], panel.image.shape[0], 0))
            axis.imshow(dense, cmap=HEAT, alpha=0.85, extent=(0, panel.shape[1], panel.shape[0], 0), interpolation="nearest")
            outline(axis, panel.boxes)
            axis.set_xlim(0, panel.image.shape[1])
            axis.set_ylim(panel.image.shape[0], 0)
            uniform = 1 / (panel.shape[0] * panel.shape[1])
            axis.set_title(f"{wrapped(panel.title, 26)}\npeak {dense.max() / uniform:.3g} x uniform", fontsize=8)
    return figure


def density(levels: Sequence[Map], shape: tuple[int, int]) -> Map:
    """Weight per pixel (height, width): each cell's spread over the pixels that it covers, all levels added up."""
    height, width = shape
    total = np.zeros(shape)
    for level in levels:
        rows = np.minimum(np.arange(height) * level.shape[0] // height, level.shape[0] - 1)
        columns = np.minimum(np.arange(width) * level.shape[1] // width, level.shape[1] - 1)
        total += level[np.ix_(rows, columns)] * level.size / (height * width)
    return total


def outline(axis: Any, boxes: Sequence[Sequence[float]]) -> None:
    """Draws boxes xyxy as thin white frames."""
    from matplotlib.patches import Rectangle

    for x0, y0, x1, y1 in boxes:
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="white", linewidth=0.9, linestyle=(0, (3, 1.5))))
