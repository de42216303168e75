"""FCOS: a point takes the smallest box around it whose sides are within its level's range.

Source: Tian et al., ICCV 2019; as mmdet's `FCOSHead._get_targets_single`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workers.geometry.boxes import area
from workers.geometry.padded import Objects

FAR = 1e8  # mmdet's INF


def sides_of(points: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distances of points (.., 2) from the left, top, right and bottom sides of boxes (.., 4) that broadcast."""
    x, y = points[..., 0], points[..., 1]
    return x - boxes[..., 0], y - boxes[..., 1], boxes[..., 2] - x, boxes[..., 3] - y


def point_owners(points: Tensor, ranges: tuple[Tensor, Tensor], truth: Objects, radius: Tensor | None) -> tuple[Tensor, Tensor]:
    """The object of every point by its row in `truth`, long (N, P), and whether it has one, bool (N, P); the first row where not.

    points: (P, 2), of all levels. ranges: least and greatest distance, (P,) each, of a box's farthest side. radius: (P,), in pixels, of
    the square around a box's centre that points have to be in; None: in the box.
    """
    boxes = truth.boxes[:, :, None]  # (N, G, 1, 4)
    sides = sides_of(points, boxes)  # (N, G, P) each
    if radius is None:
        inside = _least(sides) > 0
    else:
        middle = (boxes[..., :2] + boxes[..., 2:]) / 2
        around = radius[:, None]
        square = torch.cat([torch.maximum(middle - around, boxes[..., :2]), torch.minimum(middle + around, boxes[..., 2:])], 3)
        inside = _least(sides_of(points, square)) > 0
    farthest = torch.maximum(torch.maximum(sides[0], sides[1]), torch.maximum(sides[2], sides[3]))
    fits = inside & (farthest >= ranges[0]) & (farthest <= ranges[1]) & truth.there[..., None]
    smallest, owner = torch.where(fits, area(truth.boxes)[..., None], FAR).min(1)
    return owner, smallest != FAR


def _least(sides: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    return torch.minimum(torch.minimum(sides[0], sides[1]), torch.minimum(sides[2], sides[3]))
