"""Assignment by overlap: an anchor takes the box that it overlaps most, if it does so enough, and every box takes its best anchors.

Source: mmdet's `MaxIoUAssigner`, as RetinaNet is trained with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workers.detectors.assigning.atss import LEAST_UNION
from workers.geometry.boxes import box_iou
from workers.geometry.padded import Objects

BACKGROUND, IGNORED = -1, -2


def max_iou_owners(
    anchors: Tensor,
    truth: Objects,
    positive: float,
    negative: tuple[float, float],
    least: float | None,
    present: Tensor | None = None,
) -> Tensor:
    """The object of every anchor by its row in `truth`, BACKGROUND or IGNORED: long (N, A).

    anchors: (A, 4). positive: IoU from which an anchor takes its best box. negative: from which to below which IoU it is background.
    least: IoU from which a box takes the anchors that overlap it most, even those of another box; of several the last one gets them.
    None: no box does. present: bool (N, A), the anchors that an image has; None: all.
    """
    overlap = box_iou(truth.boxes, anchors, LEAST_UNION)  # (N, G, A); rows without an object overlap nothing
    if present is not None:
        overlap = overlap.masked_fill(~present[:, None], -1)
    best, owner = overlap.max(1)
    background = torch.where((best >= negative[0]) & (best < negative[1]), BACKGROUND, IGNORED)
    owner = torch.where(best >= positive, owner, background)
    if least is None:
        return owner
    most = overlap.amax(2, keepdim=True)
    claimed = (overlap == most) & (most >= least) & truth.there[..., None]
    rows = torch.arange(overlap.shape[1], device=overlap.device)[:, None]
    claim = torch.where(claimed, rows, -1).amax(1)
    return torch.where(claim >= 0, claim, owner)
