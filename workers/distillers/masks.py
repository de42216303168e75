"""Masks over pyramid cells drawn from ground-truth boxes: which level a box belongs to, and which cells it switches on.

Boxes are (G, 4) xyxy in pixels. All boxes of an image are compared with all cells at once, on the device, so that no step
waits for a box's coordinates. The masks are 0 and 1 (or shares of anchors) in the boxes' dtype, without gradient.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from studies.catalog import DETECTORS
from workers.distillers.base import NetworkInfo, Step
from workers.distillers.regions import box_iou

CANONICAL = 56  # pixels: boxes below twice this size belong to the first level
POINT_SCALE = 3  # side of an anchor-free cell's prior box in strides: 24 pixels at stride 8
FOREGROUND = 0.5  # least overlap of an anchor that counts as an object


def one_pixel_more(boxes: Tensor) -> Tensor:
    """Boxes whose last pixel is their x1, y1, as in the code before 2018: widths are x1 - x0 + 1."""
    return torch.cat([boxes[:, :2], boxes[:, 2:] + 1], dim=1)


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


def near_anchors(anchors: list[Tensor], boxes: Tensor, psi: float, own_level: bool) -> list[Tensor]:
    """Per level, bool (H_l*W_l*A, G): anchors whose IoU with a box exceeds psi times the box's best.

    own_level: a box has anchors on its own level only (`box_levels`), and its best is the best of that level;
    otherwise on all levels, and its best is the best of all. Source: Wang et al. 2019, Section 3.
    """
    overlaps = [box_iou(a, boxes) for a in anchors]
    best = torch.stack([overlap.amax(0) for overlap in overlaps])  # (L, G)
    if own_level:
        level = torch.arange(len(anchors), device=boxes.device)[:, None]
        threshold = torch.where(box_levels(boxes, len(anchors)) == level, psi * best, torch.inf)
    else:
        threshold = (psi * best.amax(0)).expand_as(best)
    return [overlap > least for overlap, least in zip(overlaps, threshold, strict=True)]


def near_masks(anchors: list[Tensor], gt_boxes: list[Tensor], sizes: list[tuple[int, int]], psi: float, own_level: bool) -> list[Tensor]:
    """Per level the cells with at least one near anchor: each (N, H_l, W_l)."""
    images = [near_anchors(anchors, boxes, psi, own_level) for boxes in gt_boxes]
    return [
        torch.stack([near.any(1).view(*size, -1).any(2) for near in level]).to(anchors[0].dtype)
        for size, level in zip(sizes, zip(*images, strict=True), strict=True)
    ]


def has_points(network: NetworkInfo) -> bool:
    """Whether the network's dense head predicts from points instead of anchors."""
    detector = DETECTORS.get(network.detector)
    return detector is not None and "points" in detector.traits


def point_priors(size: tuple[int, int], stride: int, like: Tensor) -> Tensor:
    """The square prior box of every cell of an anchor-free level, (H*W, 4), in the dtype and on the device of `like`."""
    height, width = size
    y, x = torch.meshgrid(
        (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * stride,
        (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * stride,
        indexing="ij",
    )
    centre = torch.stack([x, y], dim=2).view(-1, 2)
    half = POINT_SCALE * stride / 2
    return torch.cat([centre - half, centre + half], dim=1)


def scaled_centerness(priors: Tensor, boxes: Tensor) -> Tensor:
    """min(l,r)/max(l,r) and min(t,b)/max(t,b), the smaller of both, of every prior's centre in every box: (A, G).

    0 outside the box, and where the box is not within half to twice the prior's size (no lower bound for the narrowest
    priors; the tallest take boxes up to the image's size, which is the unit of both arguments).
    Source: zhanghengdev/MutualGuide@85219f9 utils/box/box_utils.py.
    """
    centre = (priors[:, None, :2] + priors[:, None, 2:]) / 2
    low, high = centre - boxes[None, :, :2], boxes[None, :, 2:] - centre  # (A, G, 2)
    ratio = (torch.minimum(low, high) / torch.maximum(low, high)).clamp(min=0).amin(2)
    sides, gt_sides = priors[:, 2:] - priors[:, :2], boxes[:, 2:] - boxes[:, :2]
    size = (gt_sides[:, 0] * gt_sides[:, 1]).sqrt()
    narrow, tall = sides[:, 0], sides[:, 1]
    least = torch.where(narrow <= narrow.min() * (1 + 1e-6), 0, narrow / 2)
    most = torch.where(tall >= tall.max() * (1 - 1e-6), 1, 2 * tall)
    return torch.where((size > least[:, None]) & (size < most[:, None]), ratio, 0)


def any_box(values: Tensor) -> Tensor:
    """Largest of (A, G) over the boxes, 0 where an image has none: (A,)."""
    return values.amax(1) if values.shape[1] else values.new_zeros(len(values))


def overlapping_priors(priors: Tensor, boxes: Tensor, points: bool) -> Tensor:
    """PDF-Distil's fine-grained samples: priors with a box at IoU >= 0.5 (points: sqrt(IoU * centerness) >= 0.5). (A,) of 0 and 1."""
    score = box_iou(priors, boxes)
    if points:
        score = (score * scaled_centerness(priors, boxes)).sqrt()
    return (any_box(score) >= FOREGROUND).to(priors.dtype)


def centred_priors(priors: Tensor, boxes: Tensor) -> Tensor:
    """PDF-Distil's foreground of decoupled features: priors whose centre lies in a box of their scale. (A,) of 0 and 1."""
    return (any_box(scaled_centerness(priors, boxes)) > 0).to(priors.dtype)


def cell_shares(step: Step, strides: tuple[int, ...], points: bool, marks: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Share of each cell's priors that `marks` (priors, boxes -> (A,) of 0 and 1) switches on: (N, sum_l H_l*W_l).

    Priors are the student's anchors, or `point_priors` of an anchor-free head; lengths are in units of the image's side.
    """
    sizes = [(f.shape[2], f.shape[3]) for f in step.student.neck]
    like = step.student.neck[0]
    levels = [point_priors(*level, like) for level in zip(sizes, strides, strict=True)] if points else step.anchors()
    unit = math.sqrt(step.image_shape[0] * step.image_shape[1])
    priors, cells = torch.cat(levels) / unit, sum(height * width for height, width in sizes)
    return torch.stack([marks(priors, boxes / unit).view(cells, -1).mean(1) for boxes in step.gt_boxes])
