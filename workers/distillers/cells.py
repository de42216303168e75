"""Between level maps, as heads give them, and the boxes in them, as losses want them.

A level map is (N, A*c, H, W), anchors outermost; boxes are counted cell by cell, the A anchors of a cell next to each other.
"""

import torch
from torch import Tensor

from workers.distillers.base import Step
from workers.distillers.masks import any_box

Where = tuple[Tensor, ...]  # (image, y, x, anchor) indices of P boxes of a level


def at(level: Tensor, where: Where, anchors: int) -> Tensor:
    """What a level map says of the boxes `where`: (P, c)."""
    return level.unflatten(1, (anchors, -1)).permute(0, 3, 4, 1, 2)[where]


def rows(level: Tensor, anchors: int) -> Tensor:
    """What a level map says of all its boxes: (N, H*W*A, c)."""
    return level.unflatten(1, (anchors, -1)).permute(0, 3, 4, 1, 2).flatten(1, 3)


def on_cells(values: Tensor, level: Tensor, anchors: int) -> Tensor:
    """One value per box, (N, H*W*A), as (N, H, W, A) of the level map."""
    return values.view(len(values), level.shape[2], level.shape[3], anchors)


def on_levels(values: Tensor, step: Step, anchors: int) -> list[Tensor]:
    """One value per box of all levels, (N, sum_l H_l*W_l*A), as (N, H_l, W_l, A) per level."""
    parts = values.split([len(boxes) for boxes in step.anchors()], 1)
    return [on_cells(part, logits, anchors) for part, logits in zip(parts, step.student.logits, strict=True)]


def by_image(pairs: Tensor, gt_boxes: list[Tensor]) -> Tensor:
    """The largest value of each anchor over the boxes of each image: (A, all boxes) -> (N, A), 0 where an image has none."""
    return torch.stack([any_box(part) for part in pairs.split([len(boxes) for boxes in gt_boxes], 1)])
