"""Cross-head distillation (CrossKD): the student's head features pass the rest of the teacher's head, to predict like it.

    f' = ReLU(z(f^s) std(f^t) + mean(f^t)),   z: standardised per channel over images and cells
    p' = rest of the teacher's head (f'),     f: tower features before the activation of the third convolution (FCOS: second)
    L_cls = w_c sum v |sigma(p') - y| BCE(sigma(p'), y) / N_pos,   y = sigma(p^t), v: the assignment's label weights
    L_reg = w_r sum u D(box', box^t) / N,                          u = max_c sigma(p^t) where v > 0
    D: GFL: KL of the sides' distributions, mean over sides, T = 1, N = sum u; RetinaNet, ATSS: 1 - GIoU, N = N_pos;
       FCOS: -log IoU. L_cen (ATSS) = w_e sum over positives of BCE(sigma(e'), sigma(e^t)) / N_pos

N_pos: the student's positives, at least one per image; FCOS: the sum of their centerness targets, here at least 1 (the
released code's 1e-6 lets a batch without objects explode). All parameters of p' are the teacher's and stay frozen.
Source: Wang et al., CVPR 2024, Eqs. 3-7; released code jbwang1997/CrossKD mmdet/models/detectors/crosskd_{gfl,retinanet,atss,
fcos}.py, mmdet/models/losses/kd_loss.py. Mean form; in training on several devices N and N_pos are their means.
"""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studies.methods import Options
from studies.trial import TrialFailure
from workers.distillation.base import Distiller
from workers.distillation.captures import Assignment, Capture, in_float
from workers.distillation.channels import scale_of
from workers.distillation.step import NetworkInfo, Step, Targets, split_levels
from workers.geometry.boxes import aligned
from workers.geometry.centerness import of_sides
from workers.geometry.levels import on_map, rows

# Detector -> names of the head's predictors of classes and boxes.
PREDICTORS = {
    "gfl": ("gfl_cls", "gfl_reg"),
    "retinanet": ("retina_cls", "retina_reg"),
    "atss": ("atss_cls", "atss_reg"),
    "fcos": ("conv_cls", "conv_reg"),
}
TINY = 1e-6  # least area, overlap and normaliser


def tower_index(head: Any) -> int:
    """Which of `head.cls_convs` and `head.reg_convs` gives f: the third (FCOS: second), or the last of a shallower tower."""
    return min(1 if hasattr(head, "conv_centerness") else 2, len(head.cls_convs) - 1)


class Tower(Capture[dict[str, tuple[Tensor, ...]]]):
    """f of the branches "cls" and "reg", each (N, C, H_l, W_l) per level, before the activation."""

    def __init__(self) -> None:
        self.levels: dict[str, list[Tensor]] = {"cls": [], "reg": []}

    def attach(self, detector: Any) -> None:
        head = detector.bbox_head
        for branch in self.levels:
            convs = getattr(head, f"{branch}_convs")
            convs[tower_index(head)].activate.register_forward_pre_hook(partial(self._keep, branch))

    def _keep(self, branch: str, module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        self.levels[branch].append(inputs[0])
        return inputs[0].clone()  # the activation works in place

    def take(self) -> dict[str, tuple[Tensor, ...]]:
        taken = {branch: in_float(levels) for branch, levels in self.levels.items()}
        self.forget()
        return taken

    def forget(self) -> None:
        for levels in self.levels.values():
            levels.clear()

    @staticmethod
    def split(taken: dict[str, tuple[Tensor, ...]], sizes: Sequence[int]) -> list[dict[str, tuple[Tensor, ...]]]:
        branches = {branch: split_levels(levels, sizes) for branch, levels in taken.items()}
        return [{branch: levels[part] for branch, levels in branches.items()} for part in range(len(sizes))]


def restandardised(student: Tensor, teacher: Tensor, shares: Sequence[int] = ()) -> Tensor:
    """The student's features (N, C, H, W) with the teacher's mean and deviation of every channel, over the images of each device where
    `shares` says how many these are."""
    done, first = [], 0
    for size, devices in itertools.groupby(shares or [len(student)]):
        images = size * len(list(devices))
        ours, theirs = (maps[first : first + images].unflatten(0, (-1, size)) for maps in (student, teacher))  # (devices, size, C, H, W)
        (mean, std), (target_mean, target_std) = scale_of(ours), scale_of(theirs)
        scale = target_std / (std + 1e-6)
        done.append(torch.addcmul(target_mean - mean * scale, ours, scale).flatten(0, 1))
        first += images
    return done[0] if len(done) == 1 else torch.cat(done)


def quality_focal(student: Tensor, teacher: Tensor, classes: int) -> Tensor:
    """|p - y| BCE(p, y) summed over the class dimension `classes` of two logit tensors."""
    target = teacher.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(student, target, reduction="none")
    return ((student.sigmoid() - target).abs() * entropy).sum(classes)


def sides_divergence(student: Tensor, teacher: Tensor, bins: int) -> Tensor:
    """Sum over a box's four sides of KL(teacher || student), from maps (N, 4*bins, H, W): (N, H, W)."""
    ours, theirs = (m.unflatten(1, (4, bins)).log_softmax(2) for m in (student, teacher))
    return F.kl_div(ours, theirs, log_target=True, reduction="none").sum((1, 2))


def box_distance(ours: Tensor, theirs: Tensor, kind: str) -> Tensor:
    """1 - GIoU ("giou") or -log IoU ("log_iou") of boxes (.., 4) xyxy, row by row."""
    common, union, hull = aligned(ours, theirs)
    iou = common / union.clamp(min=TINY)
    if kind == "log_iou":
        return -iou.clamp(min=TINY).log()
    hull = hull.clamp(min=TINY)
    return 1 - iou + (hull - union) / hull


def by_box(maps: Tensor) -> Tensor:
    """A map of boxes (N, A*4, H, W) as rows (N*H*W*A, 4) in the order of the anchors."""
    return rows(maps, 4).flatten(0, 1)


def confidence(logits: Tensor, valid: Tensor) -> Tensor:
    """u from the teacher's logits (N, A, K, H, W) and v (N, A, H, W): (N, A, H, W)."""
    return logits.amax(2).sigmoid() * (valid > 0)


class CrossKD(Distiller):
    """See the module."""

    captures = frozenset({Tower, Assignment})
    exact_head = True  # the loss lives on small differences between its predictions and the crossed ones

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        self.detector, self.classes, self.bins, self.strides = teacher.detector, teacher.classes, teacher.bins, teacher.strides
        self._outside: tuple[Any] = (teacher.model.bbox_head,)  # a tuple, so that torch does not take it for a part of this module
        o = self.options
        self.weights: dict[str, float] = {"cls": o.cls_weight, "reg": o.reg_weight, "centerness": o.centerness_weight}  # w_c, w_r, w_e
        head: Any = student.model.bbox_head
        ours, theirs = head.feat_channels, self.head.feat_channels
        if ours != theirs:
            raise TrialFailure("user", f"CrossKD needs heads of one width; the student's has {ours} channels and the teacher's {theirs}")

    @property
    def head(self) -> Any:
        """The teacher's head."""
        return self._outside[0]

    def crossed(self, branch: str, level: int, step: Step, shares: Sequence[int]) -> Tensor:
        """The student's features at the end of the teacher's tower `branch`; each device standardises its own, `shares` images."""
        features = F.relu(restandardised(step.student.of(Tower)[branch][level], step.teacher.of(Tower)[branch][level], shares))
        for conv in getattr(self.head, f"{branch}_convs")[tower_index(self.head) + 1 :]:
            features = conv(features)
        return features

    def boxes(self, features: Tensor, level: int) -> Tensor:
        """The teacher's raw box outputs, as it gives them in eval mode."""
        boxes: Tensor = getattr(self.head, PREDICTORS[self.detector][1])(features)
        if hasattr(self.head, "scales"):
            boxes = self.head.scales[level](boxes)
        if self.detector != "fcos":
            return boxes
        return boxes.clamp(min=0) * self.strides[level] if self.head.norm_on_bbox else boxes.exp()

    def disagreement(self, ours: Tensor, theirs: Tensor, level: int, step: Step) -> Tensor:
        """D from raw box outputs (N, .., H, W): (N, A, H, W)."""
        if self.bins is not None:
            return sides_divergence(ours, theirs, self.bins)[:, None] / 4
        if self.detector == "fcos":  # distances of the sides: the overlap does not depend on the point they start at
            boxes = [torch.cat([-sides[:, :2], sides[:, 2:]], 1) for sides in (by_box(ours), by_box(theirs))]
            distance = box_distance(boxes[0], boxes[1], kind="log_iou")
        else:
            anchors = step.anchors()[level].repeat(len(ours), 1)
            boxes = [self.head.bbox_coder.decode(anchors, by_box(deltas)) for deltas in (ours, theirs)]
            distance = box_distance(boxes[0], boxes[1], kind="giou")
        return on_map(distance.unflatten(0, (len(ours), -1)), ours)

    def level(self, level: int, targets: Targets, step: Step, shares: Sequence[int]) -> dict[str, Tensor]:
        """Sums of one level over the cells of each image, (N,): the terms before their divisors."""
        theirs, maps = step.teacher.logits[level], {}
        valid = on_map(targets.label_weights[level], theirs)  # v, (N, A, H, W)
        theirs = theirs.unflatten(1, (valid.shape[1], -1))  # (N, A, K, H, W)
        if self.weights["cls"]:
            ours = getattr(self.head, PREDICTORS[self.detector][0])(self.crossed("cls", level, step, shares))
            maps["cls"] = valid * quality_focal(ours.view_as(theirs), theirs, classes=2)
        if self.weights["reg"] or self.weights["centerness"]:
            features = self.crossed("reg", level, step, shares)
        if self.weights["reg"]:
            distance = self.disagreement(self.boxes(features, level), step.teacher.boxes[level], level, step)
            maps["reg"] = confidence(theirs, valid) * distance
        if self.weights["centerness"]:
            assert step.teacher.centerness is not None
            target = step.teacher.centerness[level].sigmoid()
            entropy = F.binary_cross_entropy_with_logits(self.head.atss_centerness(features), target, reduction="none")
            maps["centerness"] = on_map(self.is_positive(targets.labels[level]), entropy) * entropy
        return {name: each.flatten(1).sum(1) for name, each in maps.items()}

    def by_image(self, step: Step, shares: Sequence[int]) -> list[Tensor]:
        """Sums over levels and cells of each image, (N,), of the terms that have a weight, in their order."""
        targets = step.student.of(Assignment)
        levels = [self.level(level, targets, step, shares) for level in range(len(step.teacher.logits))]
        return [torch.stack([level[name] for level in levels]).sum(0) for name, weight in self.weights.items() if weight]

    def is_positive(self, labels: Tensor) -> Tensor:
        return (labels >= 0) & (labels < self.classes)

    def confidence(self, step: Step) -> Tensor:
        """Sum of u over images, cells and levels."""
        pairs = zip(step.student.of(Assignment).label_weights, step.teacher.logits, strict=True)
        maps = [(on_map(weights, logits), logits) for weights, logits in pairs]
        return torch.stack([confidence(logits.unflatten(1, (valid.shape[1], -1)), valid).sum() for valid, logits in maps]).sum()

    def positives(self, step: Step) -> Tensor:
        """N_pos of a step's images, a scalar; FCOS: the sum of their centerness targets."""
        targets = step.student.of(Assignment)
        masks = torch.cat([self.is_positive(labels) for labels in targets.labels], 1)  # (N, anchors of all levels)
        if self.detector != "fcos":
            return masks.sum(1).clamp(min=1).sum().float()
        assert targets.boxes is not None
        sides = torch.cat(targets.boxes, 1)  # distances left, top, right, bottom
        return torch.where(masks, of_sides(sides), 0.0).sum()

    def forward(self, step: Step) -> dict[str, Tensor]:
        # The teacher's layers run once for the images of all devices: with few images a device their cost is that of their calls.
        sums = step.of_batch(self, lambda batch: self.by_image(batch, step.shares)) if step.shares else self.by_image(step, ())
        terms = [(name, weight) for name, weight in self.weights.items() if weight]
        divisors = {name: step.mean_over_devices(self.positives).clamp(min=1) for name, _ in terms}
        if self.bins is not None and "reg" in divisors:
            divisors["reg"] = step.mean_over_devices(self.confidence).clamp(min=TINY)
        return {f"loss_crosskd_{name}": weight / divisors[name] * each.sum() for (name, weight), each in zip(terms, sums, strict=True)}
