"""Pearson correlation distillation (PKD): features are standardised per channel, so only their pattern is imitated.

    z(F)_c = (F_c - mean(F_c)) / (std(F_c) + 1e-6)              over images and cells, unbiased std
    L = w sum_l mean (z(phi(F^s)) - z(F^t))^2 / 2               (= 1 - Pearson's r, averaged over channels)

phi: 1x1 convolution where channels differ, else identity; the student's map is resized bilinearly to the teacher's where the
sizes differ, so any two pyramids fit. The first four levels. Source: Cao et al., NeurIPS 2022, Eqs. 2-4;
open-mmlab/mmrazor mmrazor/models/losses/pkd_loss.py, configs/distill/mmdet/pkd. Mean form.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studies.methods import Options
from workers.distillation.base import Distiller
from workers.distillation.channels import scale_of
from workers.distillation.step import NetworkInfo, Step

LEVELS = 4


def standardise(features: Tensor) -> Tensor:
    """z(F) of features (N, C, H, W)."""
    mean, std = scale_of(features)
    return (features - mean) / (std + 1e-6)


def pattern_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """One level's loss before w from maps (N, C, H, W)."""
    if student.shape[2:] != teacher.shape[2:]:
        student = F.interpolate(student, teacher.shape[2:], mode="bilinear")
    return F.mse_loss(standardise(student), standardise(teacher)) / 2


class PKD(Distiller):
    """See the module."""

    reads_head = False

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        self.weight = self.options.loss_weight
        pairs = list(zip(student.neck_channels, teacher.neck_channels, strict=False))[:LEVELS]
        self.adapters = nn.ModuleList(nn.Identity() if s == t else nn.Conv2d(s, t, 1) for s, t in pairs)

    def forward(self, step: Step) -> dict[str, Tensor]:
        if self.weight == 0:
            return {}
        levels = zip(self.adapters, step.student.neck, step.teacher.neck, strict=False)
        return {"loss_pkd": self.weight * torch.stack([pattern_loss(adapt(s), t) for adapt, s, t in levels]).sum()}
