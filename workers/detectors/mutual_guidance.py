"""Mutual Guidance: label assignment in which boxes choose the classification targets and scores the box targets.

With A = IoU(gt, anchor) (points: centerness), R = IoU(gt, predicted box), p = predicted score of the gt's class:

    anchors with the largest R become class positives, those with the largest A' = A^((2-p)/2) box positives.

PDF-Distil's teachers and students train with it. Boxes are xyxy and priors (cx, cy, w, h), both in [0, 1] of the image.
Assignment is computed in float32, as released: overlaps of a small box with the anchors that contain it are equal but for
rounding, which then decides the same way in every precision.
Source: Zhang et al., Localize to Classify and Classify to Localize, ACCV 2020; released code zhanghengdev/MutualGuide
utils/box/box_utils.py and utils/loss/multibox_loss.py, of which three forms are kept: `accv` (a192256: as many positives
as plain matching has, and a band of ignored ones), `dynamic` (85219f9: as many as the top overlaps sum up to, the class
target being R; anchors and points) and `capped` (e34b6b0: A' = A exp(p/2), no positive of overlap zero).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from workers.geometry.boxes import aligned, box_iou
from workers.geometry.centerness import centrality
from workers.geometry.padded import Objects, objects

Form = Literal["accv", "dynamic", "capped"]
SIGMA = 2.0  # s of A' = A^((s-p)/s)
VARIANCES = (0.1, 0.2)  # of the box coding: centre, size
POSITIVE, IGNORED = 3.0, 2.0  # scores at or above say what an anchor is
NEAREST = {True: 15, False: 5}  # top overlaps summed up by the dynamic form: anchors, points


@dataclass(frozen=True)
class Match:
    """Assignment of P priors in N images.

    class_score: (N, P), at least 3: positive, its soft label being the rest above 3 (dynamic, capped); 2: ignored; else
    background. class_gt: (N, P) long, the image's box it would be positive for. box_score, box_gt: the same for the box branch.
    """

    class_score: Tensor
    class_gt: Tensor
    box_score: Tensor
    box_gt: Tensor


def corners(priors: Tensor) -> Tensor:
    """(cx, cy, w, h) as xyxy."""
    return torch.cat([priors[..., :2] - priors[..., 2:] / 2, priors[..., :2] + priors[..., 2:] / 2], -1)


def decode(deltas: Tensor, priors: Tensor) -> Tensor:
    """Predicted boxes (.., P, 4) xyxy from coded deltas (.., P, 4)."""
    size = priors[:, 2:] * (deltas[..., 2:] * VARIANCES[1]).exp()
    low = priors[:, :2] + deltas[..., :2] * VARIANCES[0] * priors[:, 2:] - size / 2
    return torch.cat([low, low + size], -1)


def encode(boxes: Tensor, priors: Tensor) -> Tensor:
    """Deltas (.., P, 4) that decode to the boxes (.., P, 4) xyxy."""
    shift = ((boxes[..., :2] + boxes[..., 2:]) / 2 - priors[:, :2]) / (VARIANCES[0] * priors[:, 2:])
    size = ((boxes[..., 2:] - boxes[..., :2]) / priors[:, 2:]).log() / VARIANCES[1]
    return torch.cat([shift, size], -1)


def centerness(gt: Tensor, priors: Tensor) -> Tensor:
    """How central each prior's point lies in each box (.., G, 4), (.., G, P): the lesser of min/max of both directions, 0 outside.

    Also 0 where the box's size, sqrt(area), leaves (w/2, 2h) of the prior; the smallest priors know no lower bound, the
    largest no upper one.
    """
    ratio = centrality(priors[:, :2], gt[..., None, :])
    size = (gt[..., 2:] - gt[..., :2]).prod(-1).sqrt()[..., None]
    least, most = priors[:, 2] / 2, priors[:, 3] * 2
    least = least.masked_fill(least == least.min(), 0)
    most = most.masked_fill(most == most.max(), torch.inf)
    return ratio * ((size > least) & (size < most))


def best_only(overlap: Tensor) -> Tensor:
    """(N, G, P) with every entry zeroed that is not its prior's best over the boxes."""
    return torch.where(overlap == overlap.amax(1, keepdim=True), overlap, 0)


def forced(overlap: Tensor, truth: Objects) -> Tensor:
    """(N, G, P) with every box's best prior raised to 1."""
    return overlap.scatter(2, overlap.argmax(2, keepdim=True), truth.there[..., None].to(overlap.dtype))


def chosen(order: Tensor, counts: Tensor, priors: int) -> Tensor:
    """The first `counts` (N, G) of the priors in `order` (N, G, k): bool (N, G, P)."""
    first = torch.arange(order.shape[2], device=order.device) < counts[..., None]
    return torch.zeros(*order.shape[:2], priors, dtype=torch.bool, device=order.device).scatter_(2, order, first)


def most_of(counts: Tensor, priors: int) -> int:
    """How many priors any box takes. A GPU is not asked, which would be a wait: there it is all of them."""
    return int(counts.amax()) if counts.device.type == "cpu" else priors


@torch.no_grad()
def mutual_match(
    truth: Objects, priors: Tensor, deltas: Tensor, logits: Tensor, form: Form, anchors: bool = True, nearest: int | None = None
) -> Match:
    """Mutual Guidance on N images.

    truth: their boxes, and labels from 0. priors (P, 4), deltas (N, P, 4), logits (N, P, K). anchors: priors are boxes, else points
    (form `dynamic` only). nearest: how many top overlaps the dynamic count sums up (None: 15, points 5).
    """
    if not anchors and form != "dynamic":
        raise ValueError(f"points have the form 'dynamic' only, not {form!r}")
    gt, priors, deltas, count = truth.boxes.float(), priors.float(), deltas.float(), len(priors)
    overlap = box_iou(gt, corners(priors)) if anchors else centerness(gt, priors)  # (N, G, P)
    predicted = box_iou(gt, decode(deltas, priors))
    score = logits.float().sigmoid().transpose(1, 2).gather(1, truth.labels[..., None].expand(-1, -1, count))
    guided = (overlap * (score / SIGMA).exp()).clamp(max=1) if form == "capped" else overlap ** ((SIGMA - score) / SIGMA)
    if form == "accv":
        overlap, predicted, guided = (best_only(forced(o, truth)) for o in (overlap, predicted, guided))
        ignored, positive = (overlap >= 0.4).sum(2), (overlap >= 0.5).sum(2)
        order = predicted.topk(most_of(ignored, count)).indices
        predicted = predicted.masked_fill(chosen(order, ignored, count), IGNORED).masked_fill(chosen(order, positive, count), POSITIVE)
        order = guided.topk(most_of(positive, count)).indices
        guided = guided.masked_fill(chosen(order, positive, count), POSITIVE)
    else:
        predicted, guided = (_raised(best_only(o), truth, form, min(nearest or NEAREST[anchors], count)) for o in (predicted, guided))
    return Match(*predicted.max(1), *guided.max(1))


def _raised(quality: Tensor, truth: Objects, form: Form, nearest: int) -> Tensor:
    """Qualities (N, G, P), those of a box's best priors by 3 larger: as many as its `nearest` best sum up to, one at least."""
    best = quality.topk(nearest)
    wanted = best.values.sum(2).int().clamp(min=1)
    if form == "capped":
        wanted = torch.minimum(wanted, (quality > 0).sum(2))
    wanted = wanted * truth.there
    one = wanted == 1  # of equal ones the first, as for a box that no prior fits: the top-k above is free to take any
    first = torch.arange(quality.shape[2], device=quality.device) == quality.argmax(2, keepdim=True)
    raised = chosen(best.indices, wanted.masked_fill(one, 0), quality.shape[2]) | (first & one[..., None])
    return quality + POSITIVE * raised


@torch.no_grad()
def plain_match(truth: Objects, priors: Tensor, anchors: bool = True) -> tuple[Tensor, Tensor]:
    """Matching without Mutual Guidance: each prior's best overlap (1 for a box's best prior) and its box, each (N, P).

    From 0.5 on a prior is positive in both branches; between 0.4 and 0.5 its class is ignored.
    """
    gt, priors = truth.boxes.float(), priors.float()
    overlap = box_iou(gt, corners(priors)) if anchors else centerness(gt, priors)  # (N, G, P)
    score, owner = overlap.max(1)
    rows = torch.where(truth.there, torch.arange(gt.shape[1], device=gt.device), -1)
    # Of boxes that share their best prior, the last gets it.
    claim = torch.full_like(owner, -1).scatter_reduce_(1, overlap.argmax(2), rows, "amax")
    return torch.where(claim >= 0, 1, score), torch.where(claim >= 0, claim, owner)


def balanced_l1(difference: Tensor, alpha: float = 0.5, gamma: float = 1.5, beta: float = 0.11) -> Tensor:
    """Balanced L1 loss (Pang et al., Libra R-CNN, CVPR 2019) of each difference."""
    size = difference.abs()
    b = math.exp(gamma / alpha) - 1
    inner = alpha / b * (b * size + 1) * (b * size / beta + 1).log() - alpha * size
    return torch.where(size < beta, inner, gamma * size + gamma / b - alpha * beta)


def giou_loss(boxes: Tensor, target: Tensor) -> Tensor:
    """1 - GIoU of aligned boxes (.., 4) xyxy (Rezatofighi et al., CVPR 2019)."""
    common, union, around = aligned(boxes, target)
    tiny = torch.finfo(boxes.dtype).tiny
    return 1 - common / union.clamp(min=tiny) + (around - union) / around.clamp(min=tiny)


def gfocal(logits: Tensor, target: Tensor) -> Tensor:
    """|y - p|^2 BCE(p, y) of each entry, y soft."""
    return (target - logits.sigmoid()).square() * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def focal(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 1.0) -> Tensor:
    """Focal loss of each entry, y 0 or 1; gamma is 1 in the released code."""
    p = logits.sigmoid()
    wrong = (1 - p) * target + p * (1 - target)
    weight = (alpha * target + (1 - alpha) * (1 - target)) * wrong.pow(gamma)
    return weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def detection_loss(
    deltas: Tensor,
    logits: Tensor,
    priors: Tensor,
    gt_boxes: list[Tensor],
    gt_labels: list[Tensor],
    form: Form | None,
    anchors: bool = True,
    box_loss: Literal["balanced_l1", "giou"] = "balanced_l1",
) -> tuple[Tensor, Tensor]:
    """(box loss, class loss) of a batch: deltas (N, P, 4), logits (N, P, K), boxes and labels (from 0) per image.

    Box: mean over positives of Balanced L1 of the coded deltas, or of 1 - GIoU. Class: divided by the number of positive
    entries; `accv` and plain matching (form None): focal loss, an ignored prior leaving out the class of its box alone;
    `dynamic`, `capped`: |y - p|^2 BCE with the overlap of the predicted box as y. Both zero without positives.
    """
    truth, prior_boxes = objects(gt_boxes, gt_labels), corners(priors)
    if form is None:
        score, owner = plain_match(truth, priors, anchors)
        score = torch.where(score >= 0.5, POSITIVE, torch.where(score >= 0.4, IGNORED, 0.0))
        match = Match(score, owner, score, owner)
    else:
        match = mutual_match(truth, priors, deltas, logits, form, anchors)
    class_score = match.class_score
    target = torch.where(truth.there[:, :1, None], truth.box_of(match.box_gt), prior_boxes)  # an image without objects has none
    learnt = (match.box_score >= POSITIVE).to(deltas.dtype)
    coded = box_loss == "balanced_l1"
    errors = balanced_l1(deltas - encode(target, priors)).mean(2) if coded else giou_loss(decode(deltas, priors), target)
    box = (learnt * errors).sum() / learnt.sum().clamp(min=1)

    label = truth.labels.gather(1, match.class_gt)
    soft = (class_score - POSITIVE).clamp(min=0) if form in {"dynamic", "capped"} else class_score >= POSITIVE
    wanted = torch.zeros_like(logits).scatter_(2, label[..., None], soft[..., None].to(logits.dtype))
    if form in {"dynamic", "capped"}:
        return box, gfocal(logits, wanted).sum() / (wanted > 0).sum().clamp(min=1)
    counted = torch.ones_like(logits).scatter_(2, label[..., None], (class_score != IGNORED).to(logits.dtype)[..., None])
    return box, (counted * focal(logits, wanted)).sum() / (wanted == 1).sum().clamp(min=1)
