"""Between level maps, as heads give them, and the boxes in them, as losses want them.

A level map is (N, A*c, H, W), anchors outermost; boxes are counted cell by cell, the A anchors of a cell next to each other.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def rows(level: Tensor, channels: int) -> Tensor:
    """What a level map says of all its boxes: (N, A*channels, H, W) -> (N, H*W*A, channels)."""
    return level.permute(0, 2, 3, 1).reshape(len(level), -1, channels)


def flatten_levels(levels: Sequence[Tensor], channels: int) -> Tensor:
    """The rows of all levels, (N, sum_l H_l*W_l*A, channels)."""
    return torch.cat([rows(level, channels) for level in levels], dim=1)


def on_map(values: Tensor, level: Tensor) -> Tensor:
    """One value per box, (N, H*W*A), as a map (N, A, H, W) of the level map's size."""
    return values.unflatten(1, (*level.shape[-2:], -1)).permute(0, 3, 1, 2)


def on_cells(values: Tensor, level: Tensor, anchors: int) -> Tensor:
    """One value per box, (N, H*W*A), as (N, H, W, A) of the level map."""
    return values.view(len(values), level.shape[2], level.shape[3], anchors)


def on_levels(values: Tensor, levels: Sequence[Tensor], anchors: int) -> list[Tensor]:
    """One value per box of all level maps, (N, sum_l H_l*W_l*A), as (N, H_l, W_l, A) per level."""
    parts = values.split([level.shape[2] * level.shape[3] * anchors for level in levels], 1)
    return [on_cells(part, level, anchors) for part, level in zip(parts, levels, strict=True)]


def any_box(values: Tensor) -> Tensor:
    """Largest of (A, G) over the boxes, 0 where an image has none: (A,)."""
    return values.amax(1) if values.shape[1] else values.new_zeros(len(values))


def by_image(pairs: Tensor, gt_boxes: list[Tensor]) -> Tensor:
    """The largest value of each anchor over the boxes of each image: (A, all boxes) -> (N, A), 0 where an image has none."""
    return torch.stack([any_box(part) for part in pairs.split([len(boxes) for boxes in gt_boxes], 1)])
