"""Boxes: overlaps, centres, the enclosing box, and what is inside.

Boxes are (.., 4) xyxy in pixels. Most functions compare a with b pairwise, giving (A, B), or (N, A, B) where either is of N images;
`aligned` takes them row by row.
"""

import torch
from torch import Tensor

TINY = 1e-12  # least area that is divided by


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Common area of every pair, (A, B)."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    width, height = (
        (torch.minimum(a[..., axis + 2], b[..., axis + 2]) - torch.maximum(a[..., axis], b[..., axis])).clamp(min=0)
        for axis in (0, 1)  # apart, since reductions over a dimension of two are slow
    )
    return width * height


def area(boxes: Tensor) -> Tensor:
    """Area of every box, (.., A)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_iou(a: Tensor, b: Tensor, least: float = TINY) -> Tensor:
    """Intersection over union of every pair, (A, B). least: area of the union that is divided by; mmdet has 1e-6."""
    common = intersection(a, b)
    return common / (area(a)[..., :, None] + area(b)[..., None, :] - common).clamp(min=least)


def aligned(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Areas of the intersection, the union and the enclosing box of boxes (.., 4) and (.., 4), row by row: (..) each."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return common, union, hull


def centres(boxes: Tensor) -> Tensor:
    """Centre (x, y) of every box, (.., A, 2); points (.., A, 2) are their own."""
    if boxes.shape[-1] == 2:
        return boxes
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the centres of every pair, (A, B)."""
    (ax, ay), (bx, by) = centres(a).unbind(-1), centres(b).unbind(-1)
    return (ax[..., :, None] - bx[..., None, :]).square() + (ay[..., :, None] - by[..., None, :]).square()


def diou(anchors: Tensor, gt: Tensor, released: bool = False) -> Tensor:
    """DIoU = IoU - rho^2 / c^2 of every pair, (A, G); rho: distance of the centres, c: diagonal of the enclosing box.

    released: overlap over the anchor's area alone instead of the IoU, as HikariTJU/LD's `mode='diou'` computes it.
    """
    width, height = (
        torch.maximum(anchors[:, None, axis + 2], gt[None, :, axis + 2]) - torch.minimum(anchors[:, None, axis], gt[None, :, axis])
        for axis in (0, 1)
    )
    apart = squared_distance(anchors, gt) / (width.square() + height.square()).clamp(min=TINY)
    if released:
        return intersection(anchors, gt) / area(anchors)[:, None].clamp(min=TINY) - apart
    return box_iou(anchors, gt) - apart


def points_inside(points: Tensor, gt: Tensor) -> Tensor:
    """Whether each point (P, 2) lies strictly inside each box, bool (P, G)."""
    return ((points[:, None] > gt[None, :, :2]) & (points[:, None] < gt[None, :, 2:])).all(2)


def one_pixel_more(boxes: Tensor) -> Tensor:
    """Boxes whose last pixel is their x1, y1, as in the code before 2018: widths are x1 - x0 + 1."""
    return torch.cat([boxes[:, :2], boxes[:, 2:] + 1], dim=1)


def decode_distribution(logits: Tensor, points: Tensor, stride: int) -> Tensor:
    """Boxes from distributions of their sides: logits (.., P, 4*bins), points (P, 2) -> (.., P, 4) xyxy."""
    probability = logits.unflatten(-1, (4, -1)).softmax(-1)
    bins = torch.arange(probability.shape[-1], device=logits.device, dtype=logits.dtype)
    sides = stride * (probability * bins).sum(-1)
    return torch.cat([points - sides[..., :2], points + sides[..., 2:]], dim=-1)


def best_boxes(boxes: Tensor, scores: Tensor, overlap: float, keep: int) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression stopped after `keep` boxes, each image for itself, without leaving the device.

    boxes (N, P, 4), scores (N, P) -> indices (N, keep) and whether there was still a box to take, bool (N, keep).
    """
    left, images = scores.clone(), torch.arange(len(boxes), device=boxes.device)
    taken, valid = [], []
    for _ in range(min(keep, boxes.shape[1])):
        score, index = left.max(1)
        taken.append(index)
        valid.append(score > -torch.inf)
        best = boxes[images, index]
        common = (torch.minimum(boxes[..., 2:], best[:, None, 2:]) - torch.maximum(boxes[..., :2], best[:, None, :2])).clamp(min=0).prod(2)
        size = (boxes[..., 2:] - boxes[..., :2]).prod(2)
        iou = common / (size + size[images, index, None] - common).clamp(min=TINY)
        left = left.masked_fill(iou > overlap, -torch.inf)
        left[images, index] = -torch.inf
    return torch.stack(taken, 1), torch.stack(valid, 1)
