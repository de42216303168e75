"""Feature richness: the student imitates features and class predictions where the teacher sees something.

    S_l = max_c sigmoid(z^t_{l,c})                                          (over classes, and anchors of a cell), no gradient
    L_FPN = sum_l sum_{n,i,j} S_l sum_c (F^t - phi_l(F^s))^2           / sum_{n,i,j} S_l
    L_cls = sum_l sum_{n,i,j} S_l sum_k BCE(sigma(z^s_k), sigma(z^t_k)) / sum_{n,i,j} S_l
    L = alpha L_FPN + beta L_cls, both growing linearly over the first 500 iterations

phi_l: 3x3 convolution, one per level. z of a two-stage detector: the RPN's objectness; its RoI head is not distilled.
Source: Du et al., NeurIPS 2021, Eqs. 1-6; released code duzhixing/FRS detectors/distill_frs_{single,two}.py, neck/adap.py.
Mean form: the denominator runs over the batch; the loss is proportional to the number of channels and of predictions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studies.methods import Options
from workers.distillation.base import Distiller
from workers.distillation.step import NetworkInfo, Step

TINY = 1e-30  # least sum of richness that is divided by


def richness(logits: Tensor) -> Tensor:
    """S of one level from the teacher's logits (N, channels, H, W): (N, 1, H, W)."""
    return logits.amax(1, keepdim=True).sigmoid()


def feature_loss(student: Tensor, teacher: Tensor, rich: Tensor) -> Tensor:
    """L_FPN of one level: features (N, C, H, W), the student's adapted; `rich` (N, 1, H, W)."""
    square = F.mse_loss(student, teacher, reduction="none").sum(1, keepdim=True)
    return (square * rich).sum() / rich.sum().clamp(min=TINY)


def prediction_loss(student: Tensor, teacher: Tensor, rich: Tensor) -> Tensor:
    """L_cls of one level: logits (N, channels, H, W); `rich` (N, 1, H, W)."""
    entropy = F.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="none").sum(1, keepdim=True)
    return (entropy * rich).sum() / rich.sum().clamp(min=TINY)


class FRS(Distiller):
    """See the module."""

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        self.alpha, self.beta = self.options.alpha, self.options.beta
        self.ramp_iterations = self.options.ramp_iterations
        pairs = zip(student.neck_channels, teacher.neck_channels, strict=True)
        self.adapters = nn.ModuleList(nn.Conv2d(s, t, 3, padding=1) for s, t in pairs if self.alpha)

    def forward(self, step: Step) -> dict[str, Tensor]:
        rich = [richness(logits) for logits in step.teacher.logits]
        losses = {}
        if self.alpha:
            levels = zip(self.adapters, step.student.neck, step.teacher.neck, rich, strict=True)
            losses["loss_frs_feature"] = self.alpha * torch.stack([feature_loss(adapt(s), t, r) for adapt, s, t, r in levels]).sum()
        if self.beta:
            logits = zip(step.student.logits, step.teacher.logits, rich, strict=True)
            losses["loss_frs_prediction"] = self.beta * torch.stack([prediction_loss(s, t, r) for s, t, r in logits]).sum()
        return losses
