"""Cells of feature maps that boxes cover: which level a box belongs to, and which cells it switches on.

Boxes are (G, 4) xyxy in pixels. All boxes of an image are compared with all cells at once, on the device, so that no step
waits for a box's coordinates. The masks are 0 and 1 in the boxes' dtype, without gradient.
"""

import torch
from torch import Tensor

CANONICAL = 56  # pixels: boxes below twice this size belong to the first level


def cells_inside(boxes: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Whether the centre of each cell of an (H, W) map lies inside one of the boxes: bool (H, W)."""
    height, width = size
    x = (torch.arange(width, device=boxes.device, dtype=boxes.dtype) + 0.5) * stride
    y = (torch.arange(height, device=boxes.device, dtype=boxes.dtype) + 0.5) * stride
    across = (x > boxes[:, None, 0]) & (x < boxes[:, None, 2])  # (G, W)
    down = (y > boxes[:, None, 1]) & (y < boxes[:, None, 3])  # (G, H)
    return (down[:, :, None] & across[:, None, :]).any(0)


def box_levels(boxes: Tensor, levels: int) -> Tensor:
    """Level of every box: floor(log2(sqrt((w+1)(h+1)) / 56)), clipped to 0..levels-1. Long (G,).

    Source: DeFeat, `_map_roi_levels` in ggjy/DeFeat.pytorch mmdet/models/dense_heads/anchor_head.py.
    """
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    size = (sides[:, 0] * sides[:, 1]).sqrt()
    return (size / CANONICAL + 1e-6).log2().floor().clamp(0, levels - 1).long()


def span(low: Tensor, high: Tensor, stride: int, cells: int) -> tuple[Tensor, Tensor]:
    """First cell and the one after the last, int(x0/s) and int(x1/s), of every box along one axis of `cells` cells."""
    return (low / stride).trunc().clamp(0, cells - 1), (high / stride).trunc().clamp(max=cells)


def box_cells(boxes: Tensor, chosen: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Cells covered by one of the `chosen` (bool (G,)) boxes: (H, W).

    A box covers columns int(x0/s) to int(x1/s), the last left out, and rows likewise; where either is empty, the one
    cell of its corner (x0, y0). Source: DeFeat, `get_gt_mask`, same file.
    """
    height, width = size
    left, right = span(boxes[:, 0], boxes[:, 2], stride, width)
    top, bottom = span(boxes[:, 1], boxes[:, 3], stride, height)
    empty = (left == right) | (top == bottom)
    right, bottom = torch.where(empty, left + 1, right), torch.where(empty, top + 1, bottom)
    x = torch.arange(width, device=boxes.device, dtype=boxes.dtype)
    y = torch.arange(height, device=boxes.device, dtype=boxes.dtype)
    across = (x >= left[:, None]) & (x < right[:, None])  # (G, W)
    down = (y >= top[:, None]) & (y < bottom[:, None]) & chosen[:, None]  # (G, H)
    return ((down.to(boxes.dtype).T @ across.to(boxes.dtype)) > 0).to(boxes.dtype)


def level_masks(gt_boxes: list[Tensor], sizes: list[tuple[int, int]], strides: tuple[int, ...]) -> list[Tensor]:
    """Per level the cells covered by the boxes that belong to it: each (N, H_l, W_l)."""
    owners = [box_levels(boxes, len(strides)) for boxes in gt_boxes]
    return [
        torch.stack([box_cells(boxes, owner == level, size, stride) for boxes, owner in zip(gt_boxes, owners, strict=True)])
        for level, (size, stride) in enumerate(zip(sizes, strides, strict=True))
    ]
