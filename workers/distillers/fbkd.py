"""Attention-guided and non-local distillation (FBKD): attention, attention-masked features and relations between cells.

    G_s(A) = mean_c |A|, G_c(A) = mean_{h,w} |A|                     sg: no gradient; ||.||: L2 norm over the batch's tensor
    code:   M_s = sg[(HW softmax(G_s(F^t)/T) + HW softmax(G_s(F^s)/T)) / 2], M_c likewise with C and G_c
            AT = ||mean_c F^t - conv3(mean_c F^s)|| + ||mean_hw F^t - linear(mean_hw F^s)||
            AM = sqrt( sum (F^t - conv1(F^s))^2 M_s M_c )            two-stage students: M_s alone
            NLD = ||conv1'(R_s(F^s)) - R_t(F^t)||
    paper:  M_s = sg[HW softmax((G_s(F^s) + G_s(F^t)) / T)], M_c likewise
            AT = ||G_s(F^t) - G_s(F^s)|| + ||G_c(F^t) - G_c(F^s)||, AM without conv1, NLD = ||R_s(F^s) - R_t(F^t)||
    L = sum_l alpha AT + beta AM + gamma NLD

R: a non-local block, one for each network and level. code: both are trained. paper: without pooling, residual and batch
norm, and the teacher's is frozen as drawn (two trained blocks without residual agree best when both vanish).
Source: Zhang & Ma, ICLR 2021, Eqs. 1-4 and Appendix B; released two_stage.py / single_stage.py, on pyramid outputs, whose
weights exchange the paper's alpha and beta; open-mmlab/mmrazor mmrazor/models/losses/fbkd_loss.py. Where channels of teacher
and student differ, M_c is the teacher's alone (code), and F^s passes a 1x1 convolution first (paper).
Norm form: grows like the root of the images in a batch; stated for 2.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn import functional as F

from studies.methods import Options
from workers.distillation.attention import attention, mask
from workers.distillation.base import Distiller
from workers.distillation.non_local import NonLocal
from workers.distillation.step import NetworkInfo, Step

TINY = 1e-12  # inside the root of AM
POOLS = (8, 4, 2, 2, 2)  # of the non-local blocks, finest level first; the last holds for further levels


@torch.no_grad()
def attention_masks(student: Tensor, teacher: Tensor, temperature: float, variant: str) -> tuple[Tensor, Tensor]:
    """M_s (N, H*W) and M_c (N, C) of two maps (N, C, H, W); M_c is the teacher's alone where the channels differ."""
    masks = []
    for ours, theirs in zip(attention(student), attention(teacher), strict=True):
        if ours.shape != theirs.shape:
            masks.append(mask(theirs, temperature))
        elif variant == "paper":
            masks.append(mask(ours + theirs, temperature))
        else:
            masks.append((mask(ours, temperature) + mask(theirs, temperature)) / 2)
    return masks[0], masks[1]


def masked_norm(student: Tensor, teacher: Tensor, spatial: Tensor | None, channel: Tensor | None) -> Tensor:
    """AM: sqrt of the squared differences of two maps (N, C, H, W) weighted by M_s (N, H*W) and M_c (N, C)."""
    square = F.mse_loss(student, teacher, reduction="none").flatten(2)  # (N, C, H*W)
    cells = square.sum(1) if channel is None else (channel[:, None] @ square).squeeze(1)  # (N, H*W)
    energy = cells.sum() if spatial is None else (cells * spatial).sum()
    return (energy + TINY).sqrt()


class Level(nn.Module):
    """The terms of one pyramid level before their weights, and their trainable parts; only those that are on.

    ours / theirs: channels of student and teacher. inner: channels C_i of the non-local blocks. options: settled.
    """

    def __init__(self, ours: int, theirs: int, inner: int, pool: int, options: Options) -> None:
        super().__init__()
        o: Any = options
        self.options = o
        self.code = o.variant == "code"
        self.align = None if self.code or ours == theirs else nn.Conv2d(ours, theirs, 1)
        width = ours if self.code else theirs  # channels of the student's features where the terms see them
        self.on = {
            "at_spatial": bool(o.at_weight) and o.at_spatial,
            "at_channel": bool(o.at_weight) and o.at_channel,
            "am": bool(o.am_weight),
            "nld": bool(o.nld_weight),
        }
        if self.on["nld"]:
            pool = pool if self.code else 1
            self.relation = NonLocal(width, inner, pool, o.nl_mode, residual=self.code)
            self.teacher_relation = NonLocal(theirs, inner, pool, o.nl_mode, residual=self.code).requires_grad_(self.code)
        adapters = {
            "at_spatial": lambda: nn.Conv2d(1, 1, 3, padding=1),
            "at_channel": lambda: nn.Linear(ours, theirs),
            "am": lambda: nn.Conv2d(ours, theirs, 1),
            "nld": lambda: nn.Conv2d(ours, theirs, 1),
        }
        self.adapters = nn.ModuleDict({name: make() for name, make in adapters.items() if self.code and self.on[name]})

    def adapt(self, name: str, student: Tensor) -> Tensor:
        return self.adapters[name](student) if name in self.adapters else student

    def forward(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Terms by name from features (N, C, H, W)."""
        if self.align:
            student = self.align(student)
        terms: dict[str, Tensor] = {}
        ours, theirs = (student, teacher) if self.code else (student.abs(), teacher.abs())
        if self.on["at_spatial"]:
            terms["at_spatial"] = vector_norm(theirs.mean(1, keepdim=True) - self.adapt("at_spatial", ours.mean(1, keepdim=True)))
        if self.on["at_channel"]:
            terms["at_channel"] = vector_norm(theirs.mean((2, 3)) - self.adapt("at_channel", ours.mean((2, 3))))
        if self.on["am"]:
            o = self.options
            spatial, channel = attention_masks(student, teacher, o.temperature, o.variant)
            terms["am"] = masked_norm(
                self.adapt("am", student), teacher, spatial if o.mask_spatial else None, channel if o.mask_channel else None
            )
        if self.on["nld"]:
            terms["nld"] = vector_norm(self.adapt("nld", self.relation(student)) - self.teacher_relation(teacher))
        return terms


class FBKD(Distiller):
    """See the module."""

    reads_head = False

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        o = self.options
        self.weights: dict[str, Any] = {"at_spatial": o.at_weight, "at_channel": o.at_weight, "am": o.am_weight, "nld": o.nld_weight}
        self.levels = nn.ModuleList()
        for level, (ours, theirs) in enumerate(zip(student.neck_channels, teacher.neck_channels, strict=True)):
            inner = max(1, theirs // (4 if level < 2 else 2))
            self.levels.append(Level(ours, theirs, inner, POOLS[min(level, len(POOLS) - 1)], o))

    def forward(self, step: Step) -> dict[str, Tensor]:
        levels = [level(s, t) for level, s, t in zip(self.levels, step.student.neck, step.teacher.neck, strict=True)]
        return {f"loss_fbkd_{name}": self.weights[name] * torch.stack([terms[name] for terms in levels]).sum() for name in levels[0]}
