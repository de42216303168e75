"""Chen et al. 2017: soft class targets, a regression bounded by the teacher, and a hint, for RPN and RoI head.

    L_cls  = mu L_hard + (1 - mu) L_soft,   L_soft = -(1/n) sum_i sum_c w_c P_t log P_s        (w_bg = 1.5 in the RoI head, else 1)
    L_reg  = smooth L1 + nu L_b,            L_b = (1/n) sum_i ||R_s - y||^2 where ||R_s - y||^2 + m > ||R_t - y||^2, else 0
    L_hint = 1/2 ||V - Z||^2 (or |V - Z|),  Z: student features after a 1x1 convolution, V: the teacher's
    L = L^RPN + L^RCN + gamma L_hint

Both networks are evaluated on the student's sampled anchors and proposals; an RPN's score is the two-class softmax of (0, z).
L_b averages over positives, R: encoded deltas of the ground-truth class. L_hint: mean over cells, channels and pyramid levels,
the adapter kept where channels agree. L_hard and smooth L1 are the student's own losses; mu is applied to them as well
(`own_loss_factors`). Source: Chen et al. 2017, Section 3; there is no official code. Mean form.
"""

import torch
from torch import Tensor, nn

from studies.methods import Options
from workers.distillation.adapters import convolutions
from workers.distillation.base import Distiller
from workers.distillation.captures import Assignment, RoIs
from workers.distillation.step import NetworkInfo, RoIOutputs, Step
from workers.geometry.levels import flatten_levels


def soft_cross_entropy(teacher: Tensor, student: Tensor, class_weights: Tensor) -> Tensor:
    """L_soft of logits (n, K+1) with w_c (K+1,); 0 where n is."""
    terms = class_weights * teacher.softmax(1) * student.log_softmax(1)
    return -terms.sum() / max(len(student), 1)


def soft_objectness(teacher: Tensor, student: Tensor, chosen: Tensor) -> Tensor:
    """L_soft of RPN logits over the anchors where `chosen` (0 and 1, same shape) says so."""
    entropy = nn.functional.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="none")
    return (entropy * chosen).sum() / chosen.sum().clamp(min=1)


def bounded_regression(teacher: Tensor, student: Tensor, target: Tensor, positive: Tensor, margin: float) -> Tensor:
    """L_b of deltas (..., 4), averaged over the boxes where `positive` (...) is 1."""
    ours, theirs = (student - target).square().sum(-1), (teacher - target).square().sum(-1)
    bounded = torch.where(ours + margin > theirs, ours, 0)
    return (bounded * positive).sum() / positive.sum().clamp(min=1)


def hint_loss(teacher: Tensor, student: Tensor, distance: str = "l2") -> Tensor:
    """L_hint of one level, mean form."""
    if distance == "l1":
        return nn.functional.l1_loss(student, teacher)
    return nn.functional.mse_loss(student, teacher) / 2


def deltas_of(rois: RoIOutputs, labels: Tensor) -> Tensor:
    """The deltas of each RoI's own class, (R, 4); background RoIs get those of the last class."""
    assert rois.deltas is not None, "this RoI head regresses no box deltas"
    by_class = rois.deltas.view(len(labels), -1, 4)
    last = by_class.shape[1] - 1
    return by_class.gather(1, labels.clamp(max=last)[:, None, None].expand(-1, 1, 4))[:, 0]


class Chen2017(Distiller):
    """See the module. Names of losses: loss_chen_{rpn_cls,rpn_box,roi_cls,roi_box,hint}."""

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        o = self.options
        self.reads_head = bool(o.rpn)
        self.captures = frozenset(capture for wanted, capture in ((o.rpn, Assignment), (o.roi, RoIs)) if wanted)
        if o.gamma > 0:
            self.adapters = convolutions(student.neck_channels, teacher.neck_channels)

    def own_loss_factors(self) -> dict[str, float]:
        """mu on the class losses that have a soft partner; of a cascade, those of the first stage."""
        mu = self.options.mu
        rpn = {"loss_rpn_cls": mu} if self.options.rpn else {}
        return rpn | ({"loss_cls": mu, "s0.loss_cls": mu} if self.options.roi else {})

    def rpn_losses(self, step: Step) -> dict[str, Tensor]:
        """Terms of the RPN on the anchors its loss sampled."""
        o, targets = self.options, step.student.of(Assignment)
        chosen = (torch.cat(targets.label_weights, 1) > 0).float()  # (N, anchors)
        losses = {}
        if o.mu < 1:
            teacher, student = (flatten_levels(outputs.logits, 1)[..., 0] for outputs in (step.teacher, step.student))
            losses["loss_chen_rpn_cls"] = (1 - o.mu) * soft_objectness(teacher, student, chosen)
        if o.nu > 0:
            assert targets.boxes is not None, "the RPN's box targets were not recorded"
            teacher, student = (flatten_levels(outputs.boxes, 4) for outputs in (step.teacher, step.student))
            positive = chosen * (torch.cat(targets.labels, 1) == 0)
            losses["loss_chen_rpn_box"] = o.nu * bounded_regression(teacher, student, torch.cat(targets.boxes, 1), positive, o.margin)
        return losses

    def roi_losses(self, student: RoIOutputs, teacher: RoIOutputs) -> dict[str, Tensor]:
        """Terms of the RoI head on the student's proposals."""
        o, losses = self.options, {}
        if o.mu < 1:
            weights = torch.ones_like(student.logits[0])
            weights[-1] = o.background_weight
            losses["loss_chen_roi_cls"] = (1 - o.mu) * soft_cross_entropy(teacher.logits, student.logits, weights)
        if o.nu > 0:
            positive = student.bbox_weights[:, 0]
            theirs, ours = (deltas_of(rois, student.labels) for rois in (teacher, student))
            losses["loss_chen_roi_box"] = o.nu * bounded_regression(theirs, ours, student.bbox_targets, positive, o.margin)
        return losses

    def forward(self, step: Step) -> dict[str, Tensor]:
        o = self.options
        losses = self.rpn_losses(step) if o.rpn else {}
        if o.roi:
            losses |= self.roi_losses(step.student.of(RoIs), step.teacher.of(RoIs))
        if o.gamma > 0:
            triples = zip(self.adapters, step.teacher.neck, step.student.neck, strict=True)
            losses["loss_chen_hint"] = o.gamma * torch.stack([hint_loss(t, adapt(s), o.hint) for adapt, t, s in triples]).mean()
        return losses
