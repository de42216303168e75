"""Channel-wise distillation (CWD): every channel of a map is a distribution over its cells, and the student's learns the teacher's.

    L = w sum_l (tau^2 / (N C)) sum_{n,c} KL(softmax_hw(F^t / tau) || softmax_hw(phi(F^s) / tau))

phi: 1x1 convolution where channels differ, else identity. F: pyramid outputs, or (`source: logits`) the head's class logits.
Source: Shu et al., ICCV 2021, Eqs. 4-5; open-mmlab/mmrazor mmrazor/models/losses/cwd.py (tau 1, w 10, five levels). The
cross-entropy is the form of pppppM/mmdetection-distiller mmdet/distillation/losses/cwd.py. Mean form.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studies.methods import Options
from workers.distillation.base import Distiller
from workers.distillation.step import NetworkInfo, Step


def channel_divergence(student: Tensor, teacher: Tensor, temperature: float, kind: str = "kl") -> Tensor:
    """One level's loss before w from maps (N, C, H, W); kind: kl, or cross_entropy (the same plus the teacher's entropy)."""
    ours = (student.flatten(2) / temperature).log_softmax(2)
    theirs = (teacher.flatten(2) / temperature).log_softmax(2)
    total = F.kl_div(ours, theirs, log_target=True, reduction="sum") if kind == "kl" else -(theirs.exp() * ours).sum()
    return total * (temperature**2 / (student.shape[0] * student.shape[1]))


class CWD(Distiller):
    """See the module."""

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        self.reads_head = self.options.source == "logits"
        pairs = () if self.reads_head else zip(student.neck_channels, teacher.neck_channels, strict=True)
        self.adapters = nn.ModuleList(nn.Identity() if s == t else nn.Conv2d(s, t, 1) for s, t in pairs)

    def forward(self, step: Step) -> dict[str, Tensor]:
        o = self.options
        if o.loss_weight == 0:
            return {}
        if o.source == "logits":
            ours, theirs = step.student.logits, step.teacher.logits
        else:
            ours, theirs = tuple(adapt(f) for adapt, f in zip(self.adapters, step.student.neck, strict=True)), step.teacher.neck
        levels = zip(ours, theirs, strict=True)
        return {"loss_cwd": o.loss_weight * torch.stack([channel_divergence(s, t, o.temperature, o.divergence) for s, t in levels]).sum()}
