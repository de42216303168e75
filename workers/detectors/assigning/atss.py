"""ATSS: of the anchors nearest to a box, those are positive that overlap it more than such anchors usually do.

    threshold of a box = mean + standard deviation of its IoU with the `topk` nearest anchors of every level
    positive: near, IoU >= threshold, centre inside the box; of several boxes an anchor takes the one that it overlaps most

Source: Zhang et al., CVPR 2020; as mmdet's `ATSSAssigner`, operation for operation, so that also its rounding is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.geometry.boxes import box_iou, centres, squared_distance
from workers.geometry.padded import Objects

LEAST_UNION, LEAST_DISTANCE, NOTHING = 1e-6, 0.01, -1e8  # mmdet's constants


def atss_owners(anchors: Tensor, sizes: Sequence[int], truth: Objects, topk: int, present: Tensor | None = None) -> Tensor:
    """The object of every anchor, by its row in `truth`, -1 where it has none: long (N, A).

    anchors: (A, 4), of all levels. sizes: how many each level has. present: bool (N, A), the anchors that an image has (None: all), of
    every level at least `topk` or all. Where two anchors are equally far from a box and only one is among the nearest, `present` may
    choose the other one than mmdet.
    """
    overlap = box_iou(truth.boxes, anchors, LEAST_UNION)  # (N, G, A)
    distance = squared_distance(truth.boxes, anchors).sqrt()
    if present is not None:
        distance = distance.masked_fill(~present[:, None], torch.inf)
    nearest, first = [], 0
    for level in distance.split(list(sizes), 2):
        nearest.append(level.topk(min(topk, level.shape[2]), largest=False).indices + first)
        first += level.shape[2]
    near = torch.cat(nearest, 2)  # (N, G, C)
    iou = overlap.gather(2, near)
    mean = torch.where(truth.there.sum(1, keepdim=True) == 1, iou.mean(2), _mean_across(iou))
    positive = iou >= (mean + iou.std(2))[..., None]
    points = centres(anchors)[near]  # (N, G, C, 2)
    low, high = points - truth.boxes[:, :, None, :2], truth.boxes[:, :, None, 2:] - points
    positive &= (torch.minimum(low, high).amin(3) > LEAST_DISTANCE) & truth.there[..., None]
    taken = torch.full_like(overlap, NOTHING).scatter_(2, near, torch.where(positive, iou, NOTHING))
    best, owner = taken.max(1)
    return torch.where(best == NOTHING, -1, owner)


def _mean_across(values: Tensor) -> Tensor:
    """Means of (N, G, C) over C: (N, G), added up as mmdet adds them for several boxes of an image, which are its columns."""
    return values.flatten(0, 1).T.contiguous().mean(0).view(values.shape[:2])
