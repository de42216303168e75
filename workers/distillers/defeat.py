"""DeFeat: the student imitates foreground and background features apart, and the RoI head's classes likewise.

    M: cells in a ground-truth box,  N_f = sum M,  N_b = sum (1 - M),  F^s after its adapter phi
    L_neck = (1/L) sum_l [ w_f sum M (F^t - F^s)^2 / max(1, 2 C N_f) + w_b sum (1-M) (F^t - F^s)^2 / max(1, 2 C N_b) ]
    L_bb:    the same on backbone stages C3 to C5
    L_head = w_f mean_{positives} KL(p^t || p^s) + w_b mean_{negatives} KL(p^t || p^s),   p: softmax over K + 1 classes, T = 1
    pdf:     w_f mean(M (F^t - F^s)^2) + w_b mean((1-M) (F^t - F^s)^2),  M: share of a cell's anchors centred in a box of their scale

Neck: each box on its own level, phi a 3x3 convolution; backbone: all boxes at the first level's stride, resized to the stage,
phi a 3x3 convolution and ReLU; pdf: phi 1x1. Source: Guo et al. 2021, Section 3, as in ggjy/DeFeat.pytorch@c46a793
mmdet/apis/train.py (`batch_processor_kd`), mmdet/models/dense_heads/anchor_head.py; pdf: zhanghengdev/MutualGuide@85219f9
utils/loss/hint_loss.py. The proposals are the student's (the code's `SampleSTU`): its default takes the teacher's, which runs the
student's RoI head twice and pairs those logits with labels of other proposals. Sums run over the batch. Mean form.
"""

import torch
from torch import Tensor, nn

from studies.methods import Options
from workers.distillation.adapters import convolutions, near_zero
from workers.distillation.base import Distiller
from workers.distillation.captures import Backbone, RoIs
from workers.distillation.shares import cell_shares, centred_priors, has_points
from workers.distillation.step import NetworkInfo, Step
from workers.geometry.cells import level_masks

STAGES = slice(1, 4)  # of C2..C5, those that are imitated


def decoupled_loss(teacher: list[Tensor], student: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Foreground and background loss before their weights: features (N, C, H, W), masks (N, H, W) per level; means over levels."""
    parts = []
    for t, s, mask in zip(teacher, student, masks, strict=True):
        square, channels = (t - s).square().sum(1), t.shape[1]
        regions = torch.stack([mask, 1 - mask])  # (2, N, H, W)
        parts.append((regions * square).sum((1, 2, 3)) / (2 * channels * regions.sum((1, 2, 3))).clamp(min=1))
    foreground, background = torch.stack(parts).mean(0)
    return foreground, background


def head_loss(teacher: Tensor, student: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """KL over logits (R, K+1), averaged over positive (bool (R,)) and over negative proposals; 0 where there are none."""
    divergence = nn.functional.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True).sum(1)
    groups = torch.stack([positive, ~positive]).to(divergence.dtype)  # (2, R)
    foreground, background = (groups * divergence).sum(1) / groups.sum(1).clamp(min=1)
    return foreground, background


def pdf_loss(square: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """PDF-Distil's two terms before their weights: squared differences averaged over channels, and shares M, both (N, L)."""
    return (shares * square).mean(), ((1 - shares) * square).mean()


class DeFeat(Distiller):
    """See the module. Names of losses: loss_defeat_{neck,backbone,head}_{foreground,background}."""

    reads_head = False

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        o = self.options
        self.strides = student.strides
        self.points = has_points(student)
        official = o.variant == "official"
        self.weights: dict[str, tuple[float, float]] = {"neck": (o.neck_foreground, o.neck_background)}
        if official:
            self.weights["backbone"] = (o.backbone_foreground, o.backbone_background)
        if official and o.head:
            self.weights["head"] = (o.head_foreground, o.head_background)
        self.weights = {part: pair for part, pair in self.weights.items() if any(pair)}
        if "neck" in self.weights:
            neck = convolutions(student.neck_channels, teacher.neck_channels, 3 if official else 1)
            self.neck = near_zero(neck) if official else neck
        if "backbone" in self.weights:
            self.backbone = near_zero(convolutions(student.backbone_channels[STAGES], teacher.backbone_channels[STAGES], 3))
        self.captures = frozenset(capture for part, capture in (("backbone", Backbone), ("head", RoIs)) if part in self.weights)

    def neck_terms(self, step: Step) -> tuple[Tensor, Tensor]:
        """Foreground and background term of the pyramid."""
        teacher = list(step.teacher.neck)
        student = [adapter(f) for adapter, f in zip(self.neck, step.student.neck, strict=True)]
        if self.options.variant == "official":
            return decoupled_loss(teacher, student, self.masks(step, len(teacher)))
        square = torch.cat([(t - s).square().mean(1).flatten(1) for t, s in zip(teacher, student, strict=True)], 1)
        return pdf_loss(square, cell_shares(step, self.strides, self.points, centred_priors))

    def masks(self, step: Step, levels: int) -> list[Tensor]:
        """M of the first `levels` levels, (N, H_l, W_l), where these have all boxes among them."""

        def of_batch(batch: Step) -> list[Tensor]:
            sizes = [(f.shape[2], f.shape[3]) for f in batch.student.neck[:levels]]
            return level_masks(batch.gt_boxes, sizes, self.strides[:levels])

        return step.of_batch(("cells", levels), of_batch)

    def backbone_terms(self, step: Step) -> tuple[Tensor, Tensor]:
        """Foreground and background term of the backbone stages."""
        teacher = list(step.teacher.of(Backbone)[STAGES])
        pairs = zip(self.backbone, step.student.of(Backbone)[STAGES], strict=True)
        student = [nn.functional.relu(adapter(f)) for adapter, f in pairs]
        (mask,) = self.masks(step, 1)
        masks = [nn.functional.interpolate(mask[:, None], size=f.shape[2:], mode="nearest")[:, 0] for f in teacher]
        return decoupled_loss(teacher, student, masks)

    def head_terms(self, step: Step) -> tuple[Tensor, Tensor]:
        """Foreground and background term of the RoI head's classes."""
        student, teacher = step.student.of(RoIs), step.teacher.of(RoIs)
        return head_loss(teacher.logits, student.logits, student.labels < student.logits.shape[1] - 1)

    def forward(self, step: Step) -> dict[str, Tensor]:
        terms = {"neck": self.neck_terms, "backbone": self.backbone_terms, "head": self.head_terms}
        losses = {}
        for part, weights in self.weights.items():
            for region, weight, value in zip(("foreground", "background"), weights, terms[part](step), strict=True):
                if weight > 0:
                    losses[f"loss_defeat_{part}_{region}"] = weight * value
        return losses
