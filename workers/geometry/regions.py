"""Anchors near an object: by a share of the best overlap (FGFI), by ATSS's threshold, and LD's valuable localization region.

Anchors come per level, (H_l*W_l*A, 4) xyxy in pixels; nothing here carries a gradient of use.
"""

import torch
from torch import Tensor

from workers.geometry.boxes import box_iou, diou, squared_distance
from workers.geometry.cells import box_levels


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
