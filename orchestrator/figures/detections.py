"""Detections of several networks, or of one under several NMS thresholds, side by side on the same images.

As PDF-Distil's Fig. 5 and Zhang & Ma's Fig. 6 (teacher and students), and LD's Figs. 1 and 2 (NMS at 0.6 and 0.95).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.figures.boxes import is_right
from orchestrator.figures.style import COLOURS, canvas, nothing, without_frame, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT, WRONG, OBJECT = COLOURS[2], COLOURS[1], COLOURS[0]
MOST_NAMED = 12  # boxes of an image that are named


@dataclass(frozen=True)
class Seen:
    """An image with its objects and what each network finds. image: (H, W, 3); objects: {"box", "label"}; found, by the network's
    title: {"box", "label", "score"}; boxes xyxy in its pixels."""

    image: np.ndarray[Any, Any]
    objects: Sequence[dict[str, Any]]
    found: Sequence[tuple[str, Sequence[dict[str, Any]]]]


def draw(images: Sequence[Seen], classes: Sequence[str]) -> Figure:
    """One row an image: its objects, then each network's boxes, right ones green and solid, false ones red and dashed."""
    if not images:
        return nothing("no detections are measured yet")
    columns = 1 + max(len(seen.found) for seen in images)
    heads = [f"{wrapped(title, 30)}\n" for title, _ in images[0].found]
    lines = max((head.count("\n") for head in heads), default=0)
    figure = canvas(2.3 * columns, 2.55 * len(images) + 0.16 * (lines + 1))
    axes = figure.subplots(len(images), columns, squeeze=False)
    for number, (line, seen) in enumerate(zip(axes, images, strict=True)):
        for axis in line:
            without_frame(axis)
            axis.imshow(seen.image)
        if number == 0:
            line[0].set_title("objects")
        for each in seen.objects:
            box(line[0], each, OBJECT, classes[each["label"]])
        for axis, head, (_, found) in zip(line[1:], heads if number == 0 else [""] * columns, seen.found, strict=False):
            hits = [is_right(each, seen.objects) for each in found]
            told = f"{sum(hits)} right, {len(hits) - sum(hits)} false"
            axis.set_title(head + told, fontsize=8)
            for index, (each, hit) in enumerate(zip(found, hits, strict=True)):
                name = f"{classes[each['label']]} {each['score']:.2f}" if len(found) <= MOST_NAMED or index < MOST_NAMED // 2 else ""
                box(axis, each, RIGHT if hit else WRONG, name, dashed=not hit)
    return figure


def box(axis: Axes, each: dict[str, Any], colour: str, name: str, dashed: bool = False) -> None:
    """One box with its name on it."""
    from matplotlib.patches import Rectangle

    x0, y0, x1, y1 = each["box"]
    style = (0, (3, 1.5)) if dashed else "-"
    axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.3, linestyle=style))
    if name:
        patch = {"facecolor": colour, "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        axis.text(x0, y0, name, fontsize=5.5, color="white", va="bottom", ha="left", bbox=patch, clip_on=True)
