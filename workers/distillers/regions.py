"""Geometry that says where a student imitates: overlaps of boxes, cells inside boxes, the valuable localization region.

Boxes are (.., 4) xyxy in pixels; a is compared with b pairwise, giving (A, B). Nothing here carries a gradient of use.
"""

import torch
from torch import Tensor

TINY = 1e-6  # least area that is divided by


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Common area of every pair, (A, B)."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    return (high - low).clamp(min=0).prod(2)


def area(boxes: Tensor) -> Tensor:
    """Area of every box, (A,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every pair, (A, B)."""
    common = intersection(a, b)
    return common / (area(a)[:, None] + area(b)[None] - common).clamp(min=TINY)


def centres(boxes: Tensor) -> Tensor:
    """Centre (x, y) of every box, (A, 2)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def cells_inside(boxes: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Whether the centre of each cell of an (H, W) map lies inside one of the boxes: bool (H, W)."""
    height, width = size
    x = (torch.arange(width, device=boxes.device, dtype=boxes.dtype) + 0.5) * stride
    y = (torch.arange(height, device=boxes.device, dtype=boxes.dtype) + 0.5) * stride
    across = (x > boxes[:, None, 0]) & (x < boxes[:, None, 2])  # (G, W)
    down = (y > boxes[:, None, 1]) & (y < boxes[:, None, 3])  # (G, H)
    return (down[:, :, None] & across[:, None, :]).any(0)
