"""FitNets hint: the student's pyramid features, through a 1x1 convolution, imitate the teacher's.

    L = sum_l a_l (1 / (|M_l| C)) sum_{cells in M_l} sum_c (F^t - phi_l(F^s))^2

M_l: every cell of the level in the batch, or (`region: gt_boxes`) the cells whose centre lies in a ground-truth box;
phi_l: 1x1 convolution, one per level, kept even where the channels agree. a_l = 1, or (`average: cells`) |M_l| / sum |M|:
one mean over the cells of all levels, as in the comparison of PDF-Distil (released code utils/loss/hint_loss.py).
Source: Romero et al. 2015, Eq. 3 (there one layer and half the squared norm), as the hint on detector features of later
papers. Mean form.
"""

import torch
from torch import Tensor

from studies.methods import Options
from workers.distillation.adapters import convolutions
from workers.distillation.base import Distiller
from workers.distillation.imitation import hint_loss
from workers.distillation.step import NetworkInfo, Step
from workers.geometry.cells import cells_inside


def gt_mask(gt_boxes: list[Tensor], feature: Tensor, stride: int) -> Tensor:
    """Cells of `feature` (N, C, H, W) inside a ground-truth box of their image: (N, H, W) of 0 and 1."""
    size = (feature.shape[2], feature.shape[3])
    return torch.stack([cells_inside(boxes, size, stride) for boxes in gt_boxes]).to(feature.dtype)


class FitNet(Distiller):
    """See the module."""

    reads_head = False

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        self.strides = student.strides
        self.adapters = convolutions(student.neck_channels, teacher.neck_channels)

    def forward(self, step: Step) -> dict[str, Tensor]:
        losses: list[Tensor] = []
        cells: list[Tensor | int] = []
        for adapter, stride, ours, theirs in zip(self.adapters, self.strides, step.student.neck, step.teacher.neck, strict=True):
            mask = gt_mask(step.gt_boxes, ours, stride) if self.options.region == "gt_boxes" else None
            losses.append(hint_loss(theirs, adapter(ours), mask))
            cells.append(ours[:, 0].numel() if mask is None else mask.sum())
        if self.options.average == "levels":
            return {"loss_fitnet": torch.stack(losses).sum()}
        total = torch.stack([n * loss for n, loss in zip(cells, losses, strict=True)]).sum()
        count = sum(cells)
        return {"loss_fitnet": total / (count.clamp(min=1) if isinstance(count, Tensor) else count)}
