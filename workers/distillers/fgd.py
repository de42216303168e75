"""Focal and global distillation (FGD): features weighted by foreground, background and the teacher's attention, and relations.

    A_s(F) = HW softmax_hw(mean_c |F| / T), A_c(F) = C softmax_c(mean_hw |F| / T)
    W_fg: in the cells of a box 1 / (their number), the greatest over boxes; W_bg: elsewhere 1 / (number of such cells)
    L_fg = (1/N) sum A_s^t A_c^t W_fg (F^t - phi(F^s))^2,   L_bg the same with W_bg
    L_attn = (1/N) (sum |A_c^s - A_c^t| + sum |A_s^s - A_s^t|)
    L_rela = (1/N) sum (R_s(phi(F^s)) - R_t(F^t))^2
    L = sum_l alpha L_fg + beta L_bg + gamma L_attn + lambda L_rela

phi: 1x1 convolution where channels differ, else identity. R: a global context block added to its input, one for each network
and level, both trained, starting as the identity. One-stage students: five levels; two-stage: the first four.
Source: Yang et al., CVPR 2022, Eqs. 2-11; released code yzd-v/FGD mmdet/distillation/losses/fgd.py and configs/distillers/fgd
(whose gamma is 5e-4). Boxes are scaled by the padded input's shape, which is what the maps cover. Mean form.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studies.methods import Options
from workers.distillation.attention import attention, mask
from workers.distillation.base import Distiller
from workers.distillation.inherit import inherit_neck_and_head
from workers.distillation.step import NetworkInfo, Step


def box_weights(gt_boxes: list[Tensor], image_shape: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """W_fg and W_bg of a level, each (N, H, W). gt_boxes: (G, 4) xyxy per image, in pixels of an input of `image_shape` (H, W).

    A box covers the cells floor(x0)..ceil(x1) and floor(y0)..ceil(y1), both ends included.
    """
    height, width = like.shape[-2:]
    count = max(len(boxes) for boxes in gt_boxes)
    if count == 0:
        foreground = like.new_zeros(len(gt_boxes), height, width)
    else:
        boxes = nn.utils.rnn.pad_sequence([b.to(like.dtype) for b in gt_boxes], batch_first=True, padding_value=-torch.inf)  # (N, G, 4)
        x0, x1 = (boxes[..., 0] / image_shape[1] * width).floor(), (boxes[..., 2] / image_shape[1] * width).ceil()
        y0, y1 = (boxes[..., 1] / image_shape[0] * height).floor(), (boxes[..., 3] / image_shape[0] * height).ceil()
        x = torch.arange(width, device=like.device)
        y = torch.arange(height, device=like.device)[:, None]
        inside = (x >= x0[..., None, None]) & (x <= x1[..., None, None]) & (y >= y0[..., None, None]) & (y <= y1[..., None, None])
        share = 1 / (y1 + 1 - y0) / (x1 + 1 - x0)
        foreground = torch.where(inside, share[..., None, None], 0.0).amax(1)
    background = (foreground == 0).to(like.dtype)
    return foreground, background / background.sum((1, 2), keepdim=True).clamp(min=1)


class Context(nn.Module):
    """The global context that a block R adds to its input: softmax pooling of x (N, C, H, W), then two layers, (N, C).

    Source: Cao et al., GCNet, ICCV workshops 2019; last layer starts at 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.where = nn.Conv2d(channels, 1, 1)
        last = nn.Linear(channels // 2, channels)
        self.what = nn.Sequential(nn.Linear(channels, channels // 2), nn.LayerNorm(channels // 2), nn.ReLU(), last)
        nn.init.kaiming_normal_(self.where.weight, mode="fan_in")
        for parameter in (self.where.bias, last.weight, last.bias):
            if parameter is not None:
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.where(x).flatten(2).softmax(2)  # (N, 1, H*W)
        return self.what((x.flatten(2) @ weights.transpose(1, 2)).squeeze(2))


class Level(nn.Module):
    """The four terms of one pyramid level before their weights."""

    def __init__(self, ours: int, theirs: int, temperature: float, on: dict[str, bool]) -> None:
        super().__init__()
        self.temperature, self.on = temperature, on
        self.align = None if ours == theirs else nn.Conv2d(ours, theirs, 1)
        if on["relation"]:
            self.context, self.teacher_context = Context(theirs), Context(theirs)

    def forward(self, student: Tensor, teacher: Tensor, weights: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Terms by name from features (N, C, H, W) and `box_weights`."""
        if self.align:
            student = self.align(student)
        images = len(student)
        terms: dict[str, Tensor] = {}
        theirs = [mask(scores, self.temperature) for scores in attention(teacher)]  # A_s (N, H*W), A_c (N, C)
        square = F.mse_loss(student, teacher, reduction="none").flatten(2)  # (N, C, H*W)
        if self.on["fg"] or self.on["bg"]:
            cells = theirs[0] * (theirs[1][:, None] @ square).squeeze(1)  # (N, H*W)
            terms |= {name: (cells * w.flatten(1)).sum() / images for name, w in zip(("fg", "bg"), weights, strict=True) if self.on[name]}
        if self.on["attention"]:
            ours = [mask(scores, self.temperature) for scores in attention(student)]
            terms["attention"] = (F.l1_loss(ours[0], theirs[0], reduction="sum") + F.l1_loss(ours[1], theirs[1], reduction="sum")) / images
        if self.on["relation"]:
            # sum (d + c)^2 over the cells, with d = F^s - F^t and c the difference of contexts: no second map is built
            between = self.context(student) - self.teacher_context(teacher)  # (N, C)
            offset = student.sum((2, 3)) - teacher.sum((2, 3))
            terms["relation"] = (square.sum() + (between * (2 * offset + square.shape[2] * between)).sum()) / images
        return terms


class FGD(Distiller):
    """See the module."""

    reads_head = False

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        o = self.options
        self.weights: dict[str, float] = {
            "fg": o.fg_weight,
            "bg": o.bg_weight,
            "attention": o.attention_weight,
            "relation": o.relation_weight,
        }
        on = {name: weight > 0 for name, weight in self.weights.items()}
        channels = list(zip(student.neck_channels, teacher.neck_channels, strict=True))[: 5 if student.stages == "one" else 4]
        self.levels = nn.ModuleList(Level(s, t, o.temperature, on) for s, t in channels)

    def forward(self, step: Step) -> dict[str, Tensor]:
        levels = []
        for level, student, teacher in zip(self.levels, step.student.neck, step.teacher.neck, strict=False):
            levels.append(level(student, teacher, box_weights(step.gt_boxes, step.image_shape, teacher)))
        return {f"loss_fgd_{name}": self.weights[name] * torch.stack([terms[name] for terms in levels]).sum() for name in levels[0]}

    def inherit(self, student: nn.Module, teacher: nn.Module) -> None:
        """Neck and head of the teacher, as every released config with teacher and student of one detector does."""
        if self.options.inherit is not False:  # null: where they fit
            inherit_neck_and_head(student, teacher, required=bool(self.options.inherit))
