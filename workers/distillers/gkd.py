"""Gradient-guided distillation (GKD): the student learns the teacher's map of what matters to detection, not its plain features.

    w_c = mean_hw dL_det / dF_c                                   of each network's own losses, no gradient
    M = relu(sum_c w_c F_c),   m = (M - min M) / (max M - min M)  over the cells of an image
    L = w sum_l (1 / (N H W)) sum |m^t - m^s|

The channels' weights say how much the losses would change with them; a map has one channel, so networks of any widths compare.
One-stage students: five levels; two-stage: the first four. The part without boxes of the paper (GKD without BMFI).
Source: Lan and Tian, WACV 2024; released code lanqz7766/GKD mmdet/distillation/losses/gkd.py and configs/distillers/gkd (weight 0.5,
Faster R-CNN 0.01). There L_det is that of the ten surest predictions, and the maps are made outside of autograd, so that the student
gets no gradient of them; here it is the losses that train, as the paper says, and the student's features learn. Mean form.
"""

import torch
from torch import Tensor

from studies.methods import Options
from workers.distillation.base import Distiller
from workers.distillation.step import NetworkInfo, Step

LEVELS = {"one": 5, "two": 4}
TINY = 1e-12  # least range of a map that is divided by: one without any range is zero


def importance(features: Tensor, gradients: Tensor) -> Tensor:
    """m of a level: features and gradients (N, C, H, W) -> (N, H, W) from 0 to 1."""
    weights = gradients.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
    raw = (weights * features).sum(1).relu()
    least, most = raw.amin((1, 2), keepdim=True), raw.amax((1, 2), keepdim=True)
    return (raw - least) / (most - least).clamp(min=TINY)


class GKD(Distiller):
    """See the module."""

    reads_head = False

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        self.levels = LEVELS[student.stages]

    def forward(self, step: Step) -> dict[str, Tensor]:
        if self.options.loss_weight == 0:
            return {}
        ours = zip(step.student.neck, step.gradients(), strict=True)
        theirs = zip(step.teacher.neck, step.teacher_gradients(), strict=True)
        pairs = list(zip(ours, theirs, strict=True))[: self.levels]
        apart = [(importance(*teacher) - importance(*student)).abs().mean() for student, teacher in pairs]
        return {"loss_gkd": self.options.loss_weight * torch.stack(apart).sum()}
