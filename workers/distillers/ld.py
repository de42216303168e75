"""Localization Distillation: the student learns the teacher's distributions of box sides, where boxes can be learnt.

    row(e) = T^2 (1/17) sum_i p^t_i (log p^t_i - log p^s_i),  p = softmax(logits / T)            side e of one box
    L_main = w   sum_{b in positives} w_b sum_e row(e) / 4,   w_b = max_c sigmoid(z^s_{b,c}), no gradient
    L_vlr  = w_v sum_{a in VLR} v_a sum_e row(e) / 4,         v_a = IoU(a, its box)
    L_kd   = w_k sum_l (1/n_l) sum_{b in positives_l} T_k^2 (1/K) sum_k p^t_k (log p^t_k - log p^s_k),  p = softmax(z / T_k)
    L_im   = w_i sum_l mean_{cells, channels} (F^t - F^s)^2

The valuable localization region (VLR) holds the anchors whose DIoU with a box lies between gamma alpha_pos and alpha_pos,
alpha_pos being ATSS's threshold; for points it is every point inside a box, weighted like a positive.
L_im is in `ld_imitation`.
Source: Zheng et al., CVPR 2022 (its total loss, Eq. 5); released code HikariTJU/LD@4287990 mmdet/models/losses/kd_loss.py
(mean over the bins where the paper sums), dense_heads/{ld_head,ld_retina,ld_fcos_head,ld_atss}.py (sum over the batch
where GIoU and DFL are divided by sum w_b; RetinaNet's four sides share one softmax) and core/bbox/assigners/
atss_assigner.py (VLR by overlap over the anchor's area).
Sum form unless `average: weight_sum`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from studies.methods import Options
from workers.distillation.base import Distiller
from workers.distillation.captures import Assignment
from workers.distillation.step import NetworkInfo, Step
from workers.distillers.ld_imitation import Imitation
from workers.geometry.boxes import centres, points_inside
from workers.geometry.levels import by_image, flatten_levels, on_cells
from workers.geometry.regions import vlr_weights

Where = tuple[Tensor, ...]  # (image, row) of P boxes, their rows counted through all levels
Region = tuple[Where, Tensor]  # which boxes, found at once for all levels so that the device is waited for once, and their weights (P,)


def divergence(student: Tensor, teacher: Tensor, temperature: float, total: bool = False) -> Tensor:
    """T^2 KL(teacher || student) of softened logits over the last dimension: its mean, or (`total`) its sum."""
    log_p = (teacher / temperature).log_softmax(-1)
    log_q = (student / temperature).log_softmax(-1)
    terms = log_p.exp() * (log_p - log_q)
    return temperature**2 * (terms.sum(-1) if total else terms.mean(-1))


def box_divergence(student: Tensor, teacher: Tensor, temperature: float, joint: bool = False, total: bool = False) -> Tensor:
    """sum_e row(e) / 4 of box logits (P, 4*bins): (P,). joint: all four sides as one distribution."""
    if joint:
        return divergence(student, teacher, temperature, total) / 4
    sides = divergence(student.unflatten(1, (4, -1)), teacher.unflatten(1, (4, -1)), temperature, total)
    return sides.sum(1) / 4


def confidence(logits: Tensor) -> Tensor:
    """w_b = max_c sigmoid(z_{b,c}) without gradient: (P, K) -> (P,)."""
    return logits.detach().amax(1).sigmoid()


def score_loss(student: Tensor, teacher: Tensor, temperature: float, level: Tensor, levels: int) -> Tensor:
    """Mean over the boxes of each level of the softened class divergence, from logits (P, K), summed over the levels. level: (P,) long."""
    boxes = student.new_zeros(levels).index_add_(0, level, student.new_ones(len(level)))
    return (divergence(student, teacher, temperature) / boxes[level]).sum()


def through_levels(masks: Sequence[Tensor]) -> Tensor:
    """What per-level (N, H, W, A) say of all boxes, (N, sum_l H_l*W_l*A)."""
    return torch.cat([mask.flatten(1) for mask in masks], 1)


class LD(Distiller):
    """See the module."""

    captures = frozenset({Assignment})

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        self.points = student.detector == "fcos"  # VLR of an anchor-free head
        self.classes, self.anchors = student.classes, student.anchors_per_cell
        imitates = self.options.imitation != "none" and self.options.imitation_weight > 0
        self.imitation = Imitation(self.options.imitation, student, teacher) if imitates else None

    def own_loss_factors(self) -> dict[str, float]:
        """Individual LD: the student learns boxes from the teacher alone."""
        return {"loss_bbox": 0.0, "loss_dfl": 0.0} if self.options.individual_ld else {}

    def forward(self, step: Step) -> dict[str, Tensor]:
        o = self.options
        positives = self.positives(step)
        losses: dict[str, Tensor] = {}
        main = self.by_confidence(step, through_levels(positives))
        divisor = step.mean_over_devices(self.weight_sum).clamp(min=1) if o.average == "weight_sum" else 1.0
        if o.main_ld and o.loss_weight:
            losses["loss_ld"] = o.loss_weight * self.box_loss(step, main) / divisor
        if o.main_kd and o.kd_weight:
            losses["loss_ld_kd"] = o.kd_weight * self.class_loss(step, main)
        if (o.vlr_ld and o.vlr_weight) or (o.vlr_kd and o.kd_weight):
            valuable = self.valuable(step, positives)
            if o.vlr_ld and o.vlr_weight:
                losses["loss_ld_vlr"] = o.vlr_weight * self.box_loss(step, valuable) / divisor
            if o.vlr_kd and o.kd_weight:
                losses["loss_ld_kd_vlr"] = o.kd_weight * self.class_loss(step, valuable)
        if self.imitation is not None:
            losses["loss_ld_im"] = o.imitation_weight * self.imitation(step, positives)
        return losses

    def positives(self, step: Step) -> list[Tensor]:
        """The student's positives, bool (N, H, W, A) per level."""
        labels = [
            on_cells(lab, logits, self.anchors) for lab, logits in zip(step.student.of(Assignment).labels, step.student.logits, strict=True)
        ]
        return [(lab >= 0) & (lab < self.classes) for lab in labels]

    def rows(self, levels: Sequence[Tensor]) -> Tensor:
        """Level maps of a head by boxes, (N, sum_l H_l*W_l*A, c)."""
        return flatten_levels(levels, levels[0].shape[1] // self.anchors)

    def weight_sum(self, step: Step) -> Tensor:
        """Sum of w_b over the positives."""
        return self.by_confidence(step, through_levels(self.positives(step)))[1].sum()

    def by_confidence(self, step: Step, mask: Tensor) -> Region:
        """The boxes of a mask (N, sum_l H_l*W_l*A), each weighted by the student's confidence."""
        where = mask.nonzero(as_tuple=True)
        return where, confidence(self.rows(step.student.logits)[where])

    def valuable(self, step: Step, positives: list[Tensor]) -> Region:
        """The valuable localization region, weighted by IoU (points: by confidence)."""
        levels, boxes, released = step.anchors(), torch.cat(step.gt_boxes), self.options.vlr == "code"
        pairs = points_inside(centres(torch.cat(levels)), boxes) if self.points else vlr_weights(levels, boxes, released)
        weights = by_image(pairs, step.gt_boxes)
        if self.options.exclude_positives:
            weights = weights.masked_fill(through_levels(positives), 0)
        if self.points:
            return self.by_confidence(step, weights)
        where = weights.nonzero(as_tuple=True)
        return where, weights[where]

    def box_loss(self, step: Step, region: Region) -> Tensor:
        """Weighted sum of the box divergence over a region, before the term's weight."""
        o, (where, weight) = self.options, region
        ours, theirs = (self.rows(network.boxes)[where] for network in (step.student, step.teacher))
        return (weight * box_divergence(ours, theirs, o.temperature, o.sides == "joint", o.variant == "paper")).sum()

    def class_loss(self, step: Step, region: Region) -> Tensor:
        """Class divergence averaged over a region's boxes of each level, summed over levels."""
        where, _ = region
        ours, theirs = (self.rows(network.logits)[where] for network in (step.student, step.teacher))
        sizes = [level.shape[2] * level.shape[3] * self.anchors for level in step.student.logits]
        levels = torch.cat([where[1].new_full((size,), level) for level, size in enumerate(sizes)])
        return score_loss(ours, theirs, self.options.kd_temperature, levels[where[1]], len(sizes))
