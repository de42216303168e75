"""Cells of feature maps that boxes cover: which level a box belongs to, and which cells it switches on.

Boxes are (G, 4) xyxy in pixels. All boxes of a batch are compared with all cells at once, on the device, so that no step
waits for a box's coordinates. The masks are 0 and 1 in the boxes' dtype, without gradient.
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.geometry.padded import groups, side_by_side

NOWHERE = -1e6  # all coordinates of a box that covers nothing
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
    """Level of every box (.., G, 4): floor(log2(sqrt((w+1)(h+1)) / 56)), clipped to 0..levels-1. Long (.., G).

    Source: DeFeat, `_map_roi_levels` in ggjy/DeFeat.pytorch mmdet/models/dense_heads/anchor_head.py.
    """
    sides = boxes[..., 2:] - boxes[..., :2] + 1
    size = (sides[..., 0] * sides[..., 1]).sqrt()
    return (size / CANONICAL + 1e-6).log2().floor().clamp(0, levels - 1).long()


@dataclass(frozen=True)
class Grid:
    """The C cells of all levels, row by row: their column x, row y and level, (C,) each; of each level stride, columns and rows, (L,)."""

    x: Tensor
    y: Tensor
    level: Tensor
    strides: Tensor
    columns: Tensor
    rows: Tensor


@functools.lru_cache(maxsize=64)
def grid_of(sizes: tuple[tuple[int, int], ...], strides: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Grid:
    """The cells of maps of these sizes (H, W); kept, as few sizes come again and again."""
    places = [torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij") for height, width in sizes]
    y, x = (torch.cat([place[axis].flatten() for place in places]).to(device, dtype) for axis in (0, 1))
    level = torch.cat([torch.full((height * width,), level) for level, (height, width) in enumerate(sizes)]).to(device)
    rows, columns = (torch.tensor([size[axis] for size in sizes], device=device, dtype=dtype) for axis in (0, 1))
    return Grid(x, y, level, torch.tensor(strides, device=device, dtype=dtype), columns, rows)


def span(low: Tensor, high: Tensor, stride: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """First cell and the one after the last, int(x0/s) and int(x1/s), of every box along one axis of `cells` cells."""
    return torch.minimum((low / stride).trunc().clamp(min=0), cells - 1), torch.minimum((high / stride).trunc(), cells)


def covered(boxes: Tensor, grid: Grid) -> Tensor:
    """Cells covered by one of the boxes of their level, for boxes (N, G, 4): bool (N, C).

    A box covers columns int(x0/s) to int(x1/s), the last left out, and rows likewise; where either is empty, the one
    cell of its corner (x0, y0). Source: DeFeat, `get_gt_mask`, same file.
    """
    owner = box_levels(boxes, len(grid.strides))  # (N, G)
    stride = grid.strides[owner]
    left, right = span(boxes[..., 0], boxes[..., 2], stride, grid.columns[owner])
    top, bottom = span(boxes[..., 1], boxes[..., 3], stride, grid.rows[owner])
    empty = (left == right) | (top == bottom)
    right, bottom = torch.where(empty, left + 1, right), torch.where(empty, top + 1, bottom)
    across = (grid.x >= left[..., None]) & (grid.x < right[..., None])  # (N, G, C)
    down = (grid.y >= top[..., None]) & (grid.y < bottom[..., None])
    return (across & down & (grid.level == owner[..., None])).any(1)


def level_masks(gt_boxes: list[Tensor], sizes: list[tuple[int, int]], strides: tuple[int, ...]) -> list[Tensor]:
    """Per level the cells covered by the boxes that belong to it: each (N, H_l, W_l)."""
    boxes = side_by_side(gt_boxes, fill=NOWHERE)
    grid = grid_of(tuple(sizes), strides, boxes.device, boxes.dtype)
    cells = torch.cat([covered(boxes[images], grid) for images in groups(boxes, len(grid.x))]).to(boxes.dtype)
    levels = cells.split([height * width for height, width in sizes], 1)
    return [level.view(-1, *size) for level, size in zip(levels, sizes, strict=True)]
