"""Fine-grained feature imitation: the student imitates cells whose anchors lie near an object.

    I = 1 where an anchor of the cell has IoU > psi * max_anchors IoU with some ground-truth box,  N_p = sum I
    paper (Eq. 2), all levels as one map:   L = (1 / (2 N_p)) sum I sum_c (F^t - phi(F^s))^2          weight 0.01, from iteration 400
    fpn, per level, then mean over levels:  L = (1 / (2 C N_p)) sum I sum_c (F^t - phi(F^s))^2        weight 3
    pdf, all levels as one map:             L = sum (I / sum I) (1/C) sum_c (F^t - phi(F^s))^2        weight 5

paper: Wang et al. 2019 as in twangnh/Distilling-Object-Detectors@c6583f3 lib/model/rpn/anchor_target_layer.py (overlaps of boxes
one pixel larger, no division by channels), trainval_net_sup.py; phi: 3x3 convolution and ReLU. fpn: DeFeat's version for
pyramids, ggjy/DeFeat.pytorch@c46a793 mmdet/models/dense_heads/anchor_head.py: a box has anchors on its own level only; phi: 3x3
convolution. pdf: zhanghengdev/MutualGuide@85219f9 utils/loss/hint_loss.py, I: share of a cell's anchors with IoU >= 0.5; phi: 1x1.
Sums run over the batch. Mean form.
"""

import torch
from torch import Tensor, nn

from studies.methods import Options
from workers.distillation.adapters import convolutions, near_zero
from workers.distillation.base import Distiller
from workers.distillation.imitation import share
from workers.distillation.shares import cell_shares, has_points, overlapping_priors
from workers.distillation.step import NetworkInfo, Step
from workers.geometry.boxes import one_pixel_more
from workers.geometry.regions import near_masks


def paper_loss(teacher: list[Tensor], student: list[Tensor], masks: list[Tensor]) -> Tensor:
    """The paper's loss before its weight: features (N, C, H, W) and masks (N, H, W) per level."""
    pairs = zip(teacher, student, masks, strict=True)
    total = torch.stack([((t - s).square().sum(1) * mask).sum() for t, s, mask in pairs]).sum()
    return total / (2 * torch.stack([mask.sum() for mask in masks]).sum()).clamp(min=1)


def fpn_loss(teacher: list[Tensor], student: list[Tensor], masks: list[Tensor]) -> Tensor:
    """The loss of the variant fpn before its weight, from the same inputs."""
    pairs = zip(teacher, student, masks, strict=True)
    return torch.stack([masked_mean(t, s, mask) for t, s, mask in pairs]).mean()


def masked_mean(teacher: Tensor, student: Tensor, mask: Tensor) -> Tensor:
    """Half the mean squared difference of two (N, C, H, W) maps over the cells of `mask` (N, H, W); 0 where it is empty."""
    square = (teacher - student).square().sum(1)  # (N, H, W)
    return (square * mask).sum() / (2 * teacher.shape[1] * mask.sum()).clamp(min=1)


def pdf_loss(square: Tensor, shares: Tensor) -> Tensor:
    """PDF-Distil's version before its weight: squared differences averaged over channels, and shares I, both (N, L)."""
    return (share(shares) * square).sum()


class FGFI(Distiller):
    """See the module. Name of the loss: loss_fgfi."""

    reads_head = False

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        self.strides = student.strides
        self.points = has_points(student)
        size = 1 if self.options.variant == "pdf" else 3
        self.adapters = convolutions(student.neck_channels, teacher.neck_channels, size)
        if self.options.variant != "pdf":
            near_zero(self.adapters)

    def masks(self, step: Step) -> list[Tensor]:
        """I per level, (N, H_l, W_l), of the variants paper and fpn."""
        return step.of_batch(("near", self.options.variant, self.options.psi), self.batch_masks)

    def batch_masks(self, step: Step) -> list[Tensor]:
        """The same of a whole batch."""
        sizes = [(f.shape[2], f.shape[3]) for f in step.student.neck]
        if self.options.variant == "fpn":
            return near_masks(step.anchors(), step.gt_boxes, sizes, self.options.psi, own_level=True)
        anchors, boxes = (one_pixel_more(torch.cat(group)).split([len(b) for b in group]) for group in (step.anchors(), step.gt_boxes))
        return near_masks(list(anchors), list(boxes), sizes, self.options.psi, own_level=False)

    def loss(self, step: Step) -> Tensor:
        """L of the variant."""
        teacher = list(step.teacher.neck)
        student = [adapter(f) for adapter, f in zip(self.adapters, step.student.neck, strict=True)]
        if self.options.variant == "fpn":
            return fpn_loss(teacher, student, self.masks(step))
        if self.options.variant == "paper":
            return paper_loss(teacher, [nn.functional.relu(s) for s in student], self.masks(step))
        square = torch.cat([(t - s).square().mean(1).flatten(1) for t, s in zip(teacher, student, strict=True)], 1)
        return pdf_loss(square, cell_shares(step, self.strides, self.points, self.marks))

    def marks(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """I of the variant pdf, per anchor."""
        return overlapping_priors(priors, boxes, self.points)

    def forward(self, step: Step) -> dict[str, Tensor]:
        if self.options.loss_weight == 0:
            return {}
        started = float(step.iteration >= self.options.start_iteration)
        return {"loss_fgfi": started * self.options.loss_weight * self.loss(step)}
