"""What every distiller is given and must return.

A distiller knows no detector, only the outputs of one forward pass of each network: it is a function of a `Step` with
its own trainable parts (adapters, relation blocks). Those parts train with the student and stay out of the exported model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, distributed, nn

from studies.methods import Options


@dataclass
class Outputs:
    """What one network gave in the one forward pass of a step. Level l has stride `NetworkInfo.strides[l]`.

    backbone: C2..C5, each (N, C_i, H_i, W_i); filled only for distillers that name it in `captures`.
    neck: pyramid levels, each (N, C, H_l, W_l).
    logits: dense class logits per level, (N, A*K, H_l, W_l), anchors outermost (a two-stage detector: RPN objectness, (N, A, H_l, W_l)).
    boxes: dense box outputs per level, (N, A*4, H_l, W_l), or (N, A*4*bins, H_l, W_l) for distributions.
    centerness: per level (N, A, H_l, W_l), or None where the head has none.
    pre_relu: outputs of the last block of every backbone stage before its final ReLU (only where captured).
    tower: the head's intermediate features by (branch, index of conv) per level (only where captured).
    """

    backbone: tuple[Tensor, ...] = ()
    neck: tuple[Tensor, ...] = ()
    logits: tuple[Tensor, ...] = ()
    boxes: tuple[Tensor, ...] = ()
    centerness: tuple[Tensor, ...] | None = None
    pre_relu: tuple[Tensor, ...] = ()
    tower: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)

    def split(self, sizes: Sequence[int]) -> list[Outputs]:
        """The outputs for the first `sizes[0]` images, the next `sizes[1]`, ...: views."""
        maps = [_split(levels, sizes) for levels in (self.backbone, self.neck, self.logits, self.boxes, self.pre_relu)]
        centerness = [None] * len(sizes) if self.centerness is None else _split(self.centerness, sizes)
        towers = {branch: _split(levels, sizes) for branch, levels in self.tower.items()}
        parts = []
        for part in range(len(sizes)):
            backbone, neck, logits, boxes, pre_relu = (each[part] for each in maps)
            tower = {branch: levels[part] for branch, levels in towers.items()}
            parts.append(Outputs(backbone, neck, logits, boxes, centerness[part], pre_relu, tower))
        return parts


def _split(levels: tuple[Tensor, ...], sizes: Sequence[int]) -> list[tuple[Tensor, ...]]:
    """Per part its images of every level. `Tensor.split`, whose gradient is put together once, not a slice each."""
    parts = [level.split(list(sizes)) for level in levels]
    return [tuple(level[part] for level in parts) for part in range(len(sizes))]


@dataclass
class Targets:
    """The student's own label assignment of this step, per level, anchors of a cell next to each other (cell-major).

    labels: each (N, H_l*W_l*A) long, K means background. label_weights: same shape (0: ignored).
    boxes: each (N, H_l*W_l*A, 4), box targets in the head's own coding, where its assignment gives them.
    """

    labels: tuple[Tensor, ...]
    label_weights: tuple[Tensor, ...]
    boxes: tuple[Tensor, ...] | None = None

    def split(self, sizes: Sequence[int]) -> list[Targets]:
        """The targets of the first `sizes[0]` images, the next `sizes[1]`, ...: views."""
        boxes = [None] * len(sizes) if self.boxes is None else _split(self.boxes, sizes)
        return [Targets(*part) for part in zip(_split(self.labels, sizes), _split(self.label_weights, sizes), boxes, strict=True)]


@dataclass
class RoIOutputs:
    """What a RoI head (of a cascade: its first stage) made of R sampled proposals, images one after another.

    rois: (R, 5), image index and xyxy in input pixels. labels: (R,) long, K means background.
    bbox_targets / bbox_weights: (R, 4), encoded deltas to the ground-truth box, and 1 on positives, else 0.
    logits: (R, K+1), background last. deltas: (R, 4*K), or (R, 4) of a class-agnostic head; None where the head
    regresses no deltas (Grid R-CNN). features: (R, C, 7, 7), pooled from the pyramid.
    The teacher's are its outputs on the student's rois, with the student's labels and targets.
    """

    rois: Tensor
    labels: Tensor
    bbox_targets: Tensor
    bbox_weights: Tensor
    logits: Tensor
    deltas: Tensor | None
    features: Tensor

    def split(self, sizes: Sequence[int], counts: Sequence[int]) -> list[RoIOutputs]:
        """The RoIs of the first `sizes[0]` images, which are `counts[0]`, ...: views, but for the images' new numbers in `rois`."""
        parts, first = [], 0
        tensors = (self.rois, self.labels, self.bbox_targets, self.bbox_weights, self.logits, self.features)
        deltas = [None] * len(sizes) if self.deltas is None else self.deltas.split(list(counts))
        cut = zip(*(tensor.split(list(counts)) for tensor in tensors), deltas, strict=True)
        for size, (rois, labels, bbox_targets, bbox_weights, logits, features, of_part) in zip(sizes, cut, strict=True):
            rois = torch.cat([rois[:, :1] - first, rois[:, 1:]], 1)
            parts.append(RoIOutputs(rois, labels, bbox_targets, bbox_weights, logits, of_part, features))
            first += size
        return parts


def _rois_of(rois: Tensor, sizes: Sequence[int]) -> list[int]:
    """How many of the RoIs (R, 5) belong to the first `sizes[0]` images, the next `sizes[1]`, ..."""
    image = rois[:, 0].long()
    each = torch.bincount(image, minlength=sum(sizes)).split(list(sizes))
    return [int(count) for count in torch.stack([part.sum() for part in each]).tolist()]


@dataclass
class Step:
    """One training step as a distiller sees it. The teacher's tensors carry no gradient.

    gt_boxes: per image (G, 4) xyxy in pixels of the network's input. gt_labels: per image (G,) long.
    image_shape: (H, W) of the padded input batch. iteration: global, 0-based.
    anchors: gives per level the (H_l*W_l*A, 4) anchor boxes xyxy in input pixels (computed once per feature size).
    targets: gives the student's own assignment (recorded from its loss, not computed again).
    student_rois / teacher_rois: both networks on the student's sampled proposals (only where "roi" is captured).
    batch: of a part (`parts`), the step it was cut from. devices: how many parts that was cut into. means: those that the parts
    have in common (`mean_over_devices`).
    """

    student: Outputs
    teacher: Outputs
    gt_boxes: list[Tensor]
    gt_labels: list[Tensor]
    image_shape: tuple[int, int]
    iteration: int
    anchors: Callable[[], list[Tensor]]
    targets: Callable[[], Targets]
    student_rois: RoIOutputs | None = None
    teacher_rois: RoIOutputs | None = None
    batch: Step | None = None
    devices: int = 1
    means: dict[Callable[[Step], Tensor], Tensor] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """How many images it is of."""
        return len(self.gt_boxes)

    def parts(self, sizes: Sequence[int]) -> list[Step]:
        """The step cut into one of its first `sizes[0]` images, one of the next `sizes[1]`, ..., as devices would have them."""
        targets: list[Targets] = []

        def of_part(part: int) -> Callable[[], Targets]:
            def given() -> Targets:
                if not targets:
                    targets.extend(self.targets().split(sizes))
                return targets[part]

            return given

        students, teachers = self.student.split(sizes), self.teacher.split(sizes)
        none: list[RoIOutputs | None] = [None] * len(sizes)
        student_rois, teacher_rois = list(none), list(none)
        if self.student_rois is not None and self.teacher_rois is not None:
            counts = _rois_of(self.student_rois.rois, sizes)
            student_rois[:], teacher_rois[:] = self.student_rois.split(sizes, counts), self.teacher_rois.split(sizes, counts)
        ends, means = list(itertools.accumulate(sizes, initial=0)), dict[Callable[[Step], Tensor], Tensor]()
        return [
            replace(
                self,
                student=students[part],
                teacher=teachers[part],
                gt_boxes=self.gt_boxes[first:last],
                gt_labels=self.gt_labels[first:last],
                targets=of_part(part),
                student_rois=student_rois[part],
                teacher_rois=teacher_rois[part],
                batch=self,
                devices=len(sizes),
                means=means,
            )
            for part, (first, last) in enumerate(itertools.pairwise(ends))
        ]

    def mean_over_devices(self, total: Callable[[Step], Tensor]) -> Tensor:
        """What `total` gives of a step, a sum over its images without gradient, as the mean over all devices: the parts of its batch, and
        the processes that train together. Once for all parts, so that processes meet also where they have unequal numbers of parts.
        """
        if total in self.means:
            return self.means[total]
        value = total(self.batch or self) / self.devices
        if distributed.is_available() and distributed.is_initialized():
            value = value / distributed.get_world_size()
            distributed.all_reduce(value)
        if self.batch is not None:
            self.means[total] = value
        return value


@dataclass(frozen=True)
class NetworkInfo:
    """Facts of a built network that a distiller needs to make its trainable parts.

    neck_channels / backbone_channels: per level. strides: of the neck levels. classes: K. anchors_per_cell: A (1 for points).
    bins: bins of a box side's distribution, or None. stages: "one" or "two". model: the mmdet detector itself, for the few
    methods that read weights (batch-norm margins) or run a part of a head (cross-head). form: of the network (`catalog.FORMS`).
    """

    detector: str
    backbone: str
    stages: str
    neck_channels: tuple[int, ...]
    backbone_channels: tuple[int, ...]
    strides: tuple[int, ...]
    classes: int
    anchors_per_cell: int
    bins: int | None
    model: nn.Module
    form: str | None = None


class Distiller(nn.Module):
    """Base of all methods.

    Subclasses name in `captures` what they read beyond neck, logits and boxes ("backbone", "pre_relu", "targets", "tower",
    "roi"), build their trainable parts in `__init__`, and return named scalar losses from `forward`. A name starts with
    "loss_"; a term that is switched off is left out of the dict. Losses are computed in float32 whatever autocast says:
    inputs are cast, and `forward` runs with autocast off.
    """

    captures: frozenset[str] = frozenset()  # of the class, or narrowed by an instance to what its options need
    reads_head: bool = True  # False where the teacher's head need not run
    exact_head: bool = False  # True where it must run in float32 under autocast too: bf16 logits are 0.03 apart at the usual -4.6
    ramp_iterations: int = 0  # losses grow linearly from 0 over this many iterations

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        """options: settled for these networks (`studies.methods.Method.settle`), as `workers.distill.build_distiller` gives them."""
        super().__init__()
        self.options: Any = options

    def own_loss_factors(self) -> dict[str, float]:
        """Factors on the student's own losses, by their names (mmdet's, as in `loss_cls`); a name not given keeps 1."""
        return {}

    def forward(self, step: Step) -> dict[str, Tensor]:
        raise NotImplementedError

    def inherit(self, student: nn.Module, teacher: nn.Module) -> None:
        """Hook for methods that start the student from teacher weights; called once before training. Default: nothing."""


def no_loss(features: tuple[Tensor, ...]) -> Tensor:
    """A zero that keeps the graph connected, for steps in which a method has nothing to imitate."""
    return sum((f.sum() * 0.0 for f in features), start=torch.zeros((), device=features[0].device))


def flatten_levels(maps: tuple[Tensor, ...], channels: int) -> Tensor:
    """Per-level maps (N, A*channels, H_l, W_l) as one (N, sum_l H_l*W_l*A, channels), cell-major like the anchors."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, channels) for m in maps], dim=1)
