"""Masked generative distillation (MGD): from its features with cells masked out, the student generates the teacher's.

    M_{n,i,j} = 0 with probability lambda, else 1                (one mask for all channels, drawn at every step)
    L = alpha sum_l (1/N) sum (conv3(ReLU(conv3(M phi(F^s)))) - F^t)^2

phi: 1x1 convolution where channels differ, else identity. One-stage students: five levels; two-stage: the first four.
Source: Yang et al., ECCV 2022, Eqs. 1-4; released code yzd-v/MGD det/mmdet/distillation/losses/mgd.py. Mean form.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studies.methods import Options
from workers.distillation.base import Distiller
from workers.distillation.inherit import inherit_neck_and_head
from workers.distillation.step import NetworkInfo, Step


class Generation(nn.Module):
    """Generates the teacher's features of one level from the student's, kept where `kept` (N, 1, H, W) is 1."""

    def __init__(self, ours: int, theirs: int) -> None:
        super().__init__()
        self.align = None if ours == theirs else nn.Conv2d(ours, theirs, 1)
        self.layers = nn.Sequential(nn.Conv2d(theirs, theirs, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(theirs, theirs, 3, padding=1))

    def forward(self, student: Tensor, kept: Tensor) -> Tensor:
        return self.layers(kept * (self.align(student) if self.align else student))


def generation_loss(generated: Tensor, teacher: Tensor) -> Tensor:
    """(1/N) sum of squared differences of two (N, C, H, W) maps."""
    return F.mse_loss(generated, teacher, reduction="sum") / len(teacher)


def random_mask(features: Tensor, masked: float) -> Tensor:
    """One (N, 1, H, W) mask for (N, C, H, W) features: 0 with probability `masked`, else 1."""
    N, _, H, W = features.shape
    return (torch.rand(N, 1, H, W, device=features.device) <= 1 - masked).to(features.dtype)


class MGD(Distiller):
    """See the module."""

    reads_head = False

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        self.alpha, self.masked = self.options.loss_weight, self.options.masked
        channels = list(zip(student.neck_channels, teacher.neck_channels, strict=True))[: 5 if student.stages == "one" else 4]
        self.levels = nn.ModuleList(Generation(s, t) for s, t in channels)

    def forward(self, step: Step) -> dict[str, Tensor]:
        if self.alpha == 0:
            return {}
        levels = zip(self.levels, step.student.neck, step.teacher.neck, strict=False)
        loss = torch.stack([generation_loss(level(s, random_mask(s, self.masked)), t) for level, s, t in levels]).sum()
        return {"loss_mgd": self.alpha * loss}

    def inherit(self, student: nn.Module, teacher: nn.Module) -> None:
        """Neck and head of the teacher, as the released one-stage configs do."""
        if self.options.inherit is not False:  # null: where they fit
            inherit_neck_and_head(student, teacher, required=bool(self.options.inherit))
