"""Shares of cells that PDF-Distil's comparison puts weights on: how many of a cell's priors lie at an object.

Source: zhanghengdev/MutualGuide@85219f9 utils/loss/hint_loss.py and utils/box/box_utils.py.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from studies.catalog import detectors
from workers.distillation.step import NetworkInfo, Step
from workers.geometry.boxes import box_iou
from workers.geometry.centerness import scaled_centerness
from workers.geometry.padded import groups, side_by_side

POINT_SCALE = 3  # side of an anchor-free cell's prior box in strides: 24 pixels at stride 8
FOREGROUND = 0.5  # least overlap of an anchor that counts as an object


def has_points(network: NetworkInfo) -> bool:
    """Whether the network's dense head predicts from points instead of anchors."""
    detector = detectors().get(network.detector)
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


def overlapping_priors(priors: Tensor, boxes: Tensor, points: bool) -> Tensor:
    """PDF-Distil's fine-grained samples: priors with one of the boxes (.., G, 4) at IoU >= 0.5 (points: sqrt(IoU * centerness) >= 0.5).

    (.., A) of 0 and 1.
    """
    score = box_iou(boxes, priors)
    if points:
        score = (score * scaled_centerness(priors, boxes)).sqrt()
    return (score >= FOREGROUND).any(-2).to(priors.dtype)


def centred_priors(priors: Tensor, boxes: Tensor) -> Tensor:
    """PDF-Distil's foreground of decoupled features: priors whose centre lies in a box of their scale. (.., A) of 0 and 1."""
    return (scaled_centerness(priors, boxes) > 0).any(-2).to(priors.dtype)


def cell_shares(step: Step, strides: tuple[int, ...], points: bool, marks: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Share of each cell's priors that `marks` (priors, boxes (N, G, 4) -> (N, A) of 0 and 1) switches on: (N, sum_l H_l*W_l).

    Priors are the student's anchors, or `point_priors` of an anchor-free head; lengths are in units of the image's side.
    """
    sizes = [(f.shape[2], f.shape[3]) for f in step.student.neck]
    like = step.student.neck[0]
    levels = [point_priors(*level, like) for level in zip(sizes, strides, strict=True)] if points else step.anchors()
    unit = math.sqrt(step.image_shape[0] * step.image_shape[1])
    priors, cells = torch.cat(levels) / unit, sum(height * width for height, width in sizes)
    boxes = side_by_side(step.gt_boxes) / unit
    marked = torch.cat([marks(priors, boxes[images]) for images in groups(boxes, len(priors))])
    return marked.unflatten(1, (cells, -1)).mean(2)
