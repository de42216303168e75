"""Localization Distillation: the student learns the teacher's distributions of box sides.

    row(e) = T^2 (1/17) sum_i p^t_i (log p^t_i - log p^s_i),  p = softmax(logits / T)            side e of one box
    L_main = w sum_{b in positives} w_b sum_e row(e) / 4,     w_b = max_c sigmoid(z^s_{b,c}), no gradient

Source: Zheng et al., CVPR 2022, Eq. 3; released code HikariTJU/LD mmdet/models/losses/kd_loss.py (mean over the bins
where the paper sums) and dense_heads/ld_head.py (sum over the batch where GIoU and DFL are divided by sum w_b).
Sum form unless `average: weight_sum`.
"""

import torch
from torch import Tensor

from studies.methods import Options
from workers.distillers.base import Distiller, NetworkInfo, Step, no_loss


def side_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """row(e) of each pair of distribution logits: (..., bins) -> (...)."""
    log_p = (teacher / temperature).log_softmax(-1)
    log_q = (student / temperature).log_softmax(-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).mean(-1)


def rows(maps: Tensor, where: tuple[Tensor, ...], anchors: int) -> Tensor:
    """What an (N, A*c, H, W) map says at the (image, y, x, anchor) indices `where`: (P, c)."""
    return maps.unflatten(1, (anchors, -1)).permute(0, 3, 4, 1, 2)[where]


class LD(Distiller):
    """See the module."""

    captures = frozenset({"targets"})

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        self.classes, self.anchors = student.classes, student.anchors_per_cell

    def forward(self, step: Step) -> dict[str, Tensor]:
        if self.options.loss_weight == 0:
            return {}
        loss, total = no_loss(step.student.boxes), torch.zeros((), device=step.student.boxes[0].device)
        levels = zip(step.targets().labels, step.student.logits, step.student.boxes, step.teacher.boxes, strict=True)
        for labels, logits, ours, theirs in levels:
            size = (ours.shape[0], *ours.shape[2:], self.anchors)
            where = ((labels >= 0) & (labels < self.classes)).view(size).nonzero(as_tuple=True)
            weight = rows(logits, where, self.anchors).detach().sigmoid().max(1).values
            sides = side_kl(*(rows(m, where, self.anchors).unflatten(1, (4, -1)) for m in (ours, theirs)), self.options.temperature)
            loss = loss + (weight * sides.sum(1)).sum() / 4
            total = total + weight.sum()
        if self.options.average == "weight_sum":
            loss = loss / total.clamp(min=1)
        return {"loss_ld": self.options.loss_weight * loss}
