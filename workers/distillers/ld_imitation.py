"""Feature imitation of Localization Distillation: mean squared difference over chosen cells of each pyramid level.

    L_im = sum_l mean_{chosen cells, channels} (F^t - F^s)^2,   decouple: foreground + 2 x background

Cells: all (`whole`); those whose centre lies in a box (`gt_boxes`, the released code's 'fitnet', and `decouple`); positives
(`main`); anchors with an IoU above half the best of a box (`finegrained`, Wang et al. 2019); general instances (`gibox`, Dai
et al. 2021), the 10 boxes of an image and level where class scores differ most, after suppression at 0.3. Source: Zheng et
al., CVPR 2022; released code HikariTJU/LD@4287990 mmdet/models/dense_heads/ld_head.py (`get_im_region`,
`get_gi_region`). Two of its slips are not repeated: `decouple` compared the student's background with the teacher's
foreground, and general instances of different images suppressed each other. Mean form.
"""

import torch
from torch import Tensor, nn

from workers.distillation.imitation import hint_loss
from workers.distillation.step import NetworkInfo, Step
from workers.geometry.boxes import best_boxes, centres, decode_distribution, points_inside
from workers.geometry.levels import by_image, on_cells, on_levels, rows
from workers.geometry.regions import near_anchors

FINE_GRAINED = 0.5  # share of a box's best IoU from which its anchors are imitated
GI_OVERLAP, GI_BOXES = 0.3, 10  # general instances: suppression threshold, boxes kept per image and level


class Imitation(nn.Module):
    """L_im over the cells that `how` names."""

    def __init__(self, how: str, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__()
        self.how, self.anchors, self.strides = how, student.anchors_per_cell, student.strides
        # As released there is no adapter, which needs equal channels; others get one.
        pairs = zip(student.neck_channels, teacher.neck_channels, strict=True)
        self.adapters = nn.ModuleList(nn.Identity() if s == t else nn.Conv2d(s, t, 1) for s, t in pairs)

    def forward(self, step: Step, positives: list[Tensor]) -> Tensor:
        """positives: the student's, bool (N, H, W, A) per level."""
        losses = []
        for adapter, ours, theirs, mask in zip(
            self.adapters, step.student.neck, step.teacher.neck, self.masks(step, positives), strict=True
        ):
            adapted = adapter(ours)
            losses.append(hint_loss(theirs, adapted, mask))
            if self.how == "decouple":
                losses.append(2 * hint_loss(theirs, adapted, 1 - mask))
        return torch.stack(losses).sum()

    def masks(self, step: Step, positives: list[Tensor]) -> list[Tensor]:
        """The chosen cells, per level (N, H, W) of 0 and 1."""
        if self.how == "whole":
            return [torch.ones_like(f[:, 0]) for f in step.student.neck]
        if self.how == "main":
            chosen = positives
        elif self.how == "gibox":
            chosen = self.general_instances(step)
        else:
            levels, boxes = step.anchors(), torch.cat(step.gt_boxes)
            if self.how == "finegrained":
                near = near_anchors(levels, step.gt_boxes, FINE_GRAINED, own_level=False)
            else:  # gt_boxes, decouple
                near = by_image(points_inside(centres(torch.cat(levels)), boxes), step.gt_boxes)
            chosen = on_levels(near, step.student.logits, self.anchors)
        return [boxes.any(3).float() for boxes in chosen]

    @torch.no_grad()
    def general_instances(self, step: Step) -> list[Tensor]:
        """Boxes of the network that is surer of them, where the two differ most: bool (N, H, W, A) per level."""
        chosen = []
        networks = (step.student, step.teacher)
        for level, anchors in enumerate(step.anchors()):
            ours, theirs = (self.rows(n.logits[level]).sigmoid() for n in networks)  # (N, P, K)
            score, label = (theirs - ours).abs().max(2)
            surer = (theirs - ours).gather(2, label[..., None]) >= 0
            mine, yours = (decode_distribution(self.rows(n.boxes[level]), centres(anchors), self.strides[level]) for n in networks)
            index, valid = best_boxes(torch.where(surer, yours, mine), score, GI_OVERLAP, GI_BOXES)
            picked = torch.zeros_like(score).scatter_add_(1, index, valid.to(score.dtype)) > 0
            chosen.append(on_cells(picked, step.student.logits[level], self.anchors))
        return chosen

    def rows(self, level: Tensor) -> Tensor:
        """A level map of a head by boxes, (N, H*W*A, c)."""
        return rows(level, level.shape[1] // self.anchors)
