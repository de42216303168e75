"""Anchors near an object: by a share of the best overlap (FGFI), by ATSS's threshold, and LD's valuable localization region.

Anchors come per level, (H_l*W_l*A, 4) xyxy in pixels; nothing here carries a gradient of use.
"""

import torch
from torch import Tensor

from workers.geometry.boxes import box_iou, diou, squared_distance
from workers.geometry.cells import box_levels
from workers.geometry.padded import groups, side_by_side


def near_anchors(anchors: list[Tensor], gt_boxes: list[Tensor], psi: float, own_level: bool) -> Tensor:
    """Anchors of all levels whose IoU with a box of an image exceeds psi times the box's best: bool (N, A).

    own_level: a box has anchors on its own level only (`box_levels`), and its best is the best of that level;
    otherwise on all levels, and its best is the best of all. Source: Wang et al. 2019, Section 3.
    """
    boxes, every = side_by_side(gt_boxes), torch.cat(anchors)
    level = torch.cat([torch.full_like(part[:, 0], number) for number, part in enumerate(anchors)]) if own_level else None
    return torch.cat([_near(every, boxes[images], psi, level, len(anchors)) for images in groups(boxes, len(every))])


def _near(anchors: Tensor, boxes: Tensor, psi: float, level: Tensor | None, levels: int) -> Tensor:
    """`near_anchors` of boxes (N, G, 4); one that is none, a zero box, is near to nothing. level: of every anchor, where it matters."""
    overlap = box_iou(boxes, anchors)  # (N, G, A)
    if level is not None:
        overlap = torch.where(level == box_levels(boxes, levels)[..., None], overlap, 0)
    return (overlap > psi * overlap.amax(2, keepdim=True)).any(1)


def near_masks(anchors: list[Tensor], gt_boxes: list[Tensor], sizes: list[tuple[int, int]], psi: float, own_level: bool) -> list[Tensor]:
    """Per level the cells with at least one near anchor: each (N, H_l, W_l)."""
    near = near_anchors(anchors, gt_boxes, psi, own_level).split([len(level) for level in anchors], 1)
    return [level.unflatten(1, (*size, -1)).any(3).to(anchors[0].dtype) for size, level in zip(sizes, near, strict=True)]


def atss_thresholds(levels: list[Tensor], gt: Tensor, overlap: Tensor, topk: int = 9) -> Tensor:
    """ATSS's threshold of each box: mean + standard deviation of its IoU with the `topk` nearest anchors of every level, (G,).

    overlap: IoU of all anchors with the boxes, (A, G).
    """
    distance = squared_distance(gt, torch.cat(levels)).sqrt()  # (G, A)
    sizes = [len(anchors) for anchors in levels]
    nearest = torch.cat(
        [
            iou.gather(1, far.topk(min(topk, far.shape[1]), largest=False).indices)
            for iou, far in zip(overlap.T.split(sizes, 1), distance.split(sizes, 1), strict=True)
        ],
        dim=1,
    )
    return nearest.mean(1) + nearest.std(1)


def vlr_mask(levels: list[Tensor], gt: Tensor, overlap: Tensor, released: bool, gamma: float = 0.25, topk: int = 9) -> Tensor:
    """Valuable localization region of every box, (A, G): gamma * threshold <= DIoU <= threshold (released: < threshold)."""
    threshold = atss_thresholds(levels, gt, overlap, topk)
    near = diou(torch.cat(levels), gt, released)
    below = near < threshold if released else near <= threshold
    return below & (near >= gamma * threshold)


def vlr_weights(levels: list[Tensor], gt: Tensor, released: bool, gamma: float = 0.25, topk: int = 9) -> Tensor:
    """IoU of anchors with the boxes whose valuable localization region they are in, 0 elsewhere, (A, G)."""
    overlap = box_iou(torch.cat(levels), gt)
    if len(gt) == 0:
        return overlap
    return overlap * vlr_mask(levels, gt, overlap, released, gamma, topk)
