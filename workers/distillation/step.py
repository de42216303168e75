"""A training step as a distiller sees it: what both networks gave, the objects, and what the student's own losses know.

A step may be cut into parts, as devices with fewer images would have it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, distributed, nn

if TYPE_CHECKING:
    from workers.distillation.captures import Capture

T = TypeVar("T")


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


@dataclass
class Outputs:
    """What one network gave in the one forward pass of a step. Level l has stride `NetworkInfo.strides[l]`.

    neck: pyramid levels, each (N, C, H_l, W_l).
    logits: dense class logits per level, (N, A*K, H_l, W_l), anchors outermost (a two-stage detector: RPN objectness, (N, A, H_l, W_l)).
    boxes: dense box outputs per level, (N, A*4, H_l, W_l), or (N, A*4*bins, H_l, W_l) for distributions.
    centerness: per level (N, A, H_l, W_l), or None where the head has none.
    captured: what the captures took that the distillers name; see `of`.
    """

    neck: tuple[Tensor, ...] = ()
    logits: tuple[Tensor, ...] = ()
    boxes: tuple[Tensor, ...] = ()
    centerness: tuple[Tensor, ...] | None = None
    captured: dict[type[Capture[Any]], Any] = field(default_factory=dict)

    def of(self, capture: type[Capture[T]]) -> T:
        """What a capture took of this network; a distiller names in `captures` what it reads."""
        if capture not in self.captured:
            raise ValueError(f"{capture.__name__} was not captured: name it in the distiller's captures")
        taken: T = self.captured[capture]
        return taken

    def split(self, sizes: Sequence[int]) -> list[Outputs]:
        """The outputs for the first `sizes[0]` images, the next `sizes[1]`, ...: views."""
        maps = [split_levels(levels, sizes) for levels in (self.neck, self.logits, self.boxes)]
        centerness = [None] * len(sizes) if self.centerness is None else split_levels(self.centerness, sizes)
        captured = {capture: capture.split(value, sizes) for capture, value in self.captured.items()}
        return [
            Outputs(neck, logits, boxes, centers, {capture: values[part] for capture, values in captured.items()})
            for part, (neck, logits, boxes, centers) in enumerate(zip(*maps, centerness, strict=True))
        ]


def split_levels(levels: tuple[Tensor, ...], sizes: Sequence[int]) -> list[tuple[Tensor, ...]]:
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
        boxes = [None] * len(sizes) if self.boxes is None else split_levels(self.boxes, sizes)
        return [
            Targets(*part) for part in zip(split_levels(self.labels, sizes), split_levels(self.label_weights, sizes), boxes, strict=True)
        ]


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


def rois_of(rois: Tensor, sizes: Sequence[int]) -> list[int]:
    """How many of the RoIs (R, 5) belong to the first `sizes[0]` images, the next `sizes[1]`, ..."""
    image = rois[:, 0].long()
    each = torch.bincount(image, minlength=sum(sizes)).split(list(sizes))
    return [int(count) for count in torch.stack([part.sum() for part in each]).tolist()]


def _no_gradients() -> tuple[Tensor, ...]:
    raise ValueError("a step outside of a training has no losses of the networks, nor gradients of them")


@dataclass
class Step:
    """One training step as a distiller sees it. The teacher's tensors carry no gradient.

    gt_boxes: per image (G, 4) xyxy in pixels of the network's input. gt_labels: per image (G,) long.
    image_shape: (H, W) of the padded input batch. iteration: global, 0-based.
    anchors: gives per level the (H_l*W_l*A, 4) anchor boxes xyxy in input pixels (computed once per feature size).
    data_samples: mmdet's, one per image. own_losses: the student's, as they train it, by mmdet's names: a tensor or one per level.
    gradients: gives the gradients of their sum with respect to the student's `neck`, of the same shapes and detached (computed once,
    when a method asks). teacher_gradients: likewise those of the teacher's losses on the same objects with respect to the teacher's
    `neck`, which runs its heads once more. A step outside of a training has none of the four.
    batch: of a part (`parts`), the step it was cut from. first: of its images, their number in the batch. shares: images of each part that
    was cut into, none of a whole step. common: what the parts have in common (`mean_over_devices`, `of_batch`).
    """

    student: Outputs
    teacher: Outputs
    gt_boxes: list[Tensor]
    gt_labels: list[Tensor]
    image_shape: tuple[int, int]
    iteration: int
    anchors: Callable[[], list[Tensor]]
    data_samples: list[Any] = field(default_factory=list)
    own_losses: dict[str, Any] = field(default_factory=dict)
    gradients: Callable[[], tuple[Tensor, ...]] = _no_gradients
    teacher_gradients: Callable[[], tuple[Tensor, ...]] = _no_gradients
    batch: Step | None = None
    first: int = 0
    shares: tuple[int, ...] = ()
    common: dict[Hashable, Any] = field(default_factory=dict, init=False)  # so another step, made by `replace`, begins with none

    @property
    def images(self) -> int:
        """How many images it is of."""
        return len(self.gt_boxes)

    def parts(self, sizes: Sequence[int]) -> list[Step]:
        """The step cut into one of its first `sizes[0]` images, one of the next `sizes[1]`, ..., as devices would have them."""
        gradients = functools.cache(lambda: split_levels(self.gradients(), sizes))
        of_teacher = functools.cache(lambda: split_levels(self.teacher_gradients(), sizes))
        students, teachers = self.student.split(sizes), self.teacher.split(sizes)
        ends = list(itertools.accumulate(sizes, initial=0))
        parts = [
            replace(
                self,
                student=students[number],
                teacher=teachers[number],
                gt_boxes=self.gt_boxes[first:last],
                gt_labels=self.gt_labels[first:last],
                data_samples=self.data_samples[first:last],
                gradients=_part_of(gradients, number, len(sizes)),
                teacher_gradients=_part_of(of_teacher, number, len(sizes)),
                batch=self,
                first=first,
                shares=tuple(sizes),
            )
            for number, (first, last) in enumerate(itertools.pairwise(ends))
        ]
        for part in parts:
            part.common = parts[0].common
        return parts

    def mean_over_devices(self, total: Callable[[Step], Tensor]) -> Tensor:
        """What `total` gives of a step, a sum over its images without gradient, as the mean over all devices: the parts of its batch, and
        the processes that train together. Once for all parts, so that processes meet also where they have unequal numbers of parts.
        """
        if total in self.common:
            found: Tensor = self.common[total]
            return found
        value = total(self.batch or self) / max(1, len(self.shares))
        if distributed.is_available() and distributed.is_initialized():
            value = value / distributed.get_world_size()
            distributed.all_reduce(value)
        if self.batch is not None:
            self.common[total] = value
        return value

    def of_batch(self, name: Hashable, make: Callable[[Step], list[Tensor]]) -> list[Tensor]:
        """What `make` gives of the whole batch, tensors of N images first: once for all parts and for all methods that ask for the same
        `name`, here of the step's own images. For what no image has of one on another device: masks, targets, sums by image."""
        batch = self.batch or self
        if name not in batch.common:
            batch.common[name] = make(batch)
        made: list[Tensor] = batch.common[name]
        return [tensor[self.first : self.first + self.images] for tensor in made]


def _part_of(gradients: Callable[[], list[tuple[Tensor, ...]]], part: int, devices: int) -> Callable[[], tuple[Tensor, ...]]:
    """The gradients of a device's own losses: those of the batch are their mean over the devices."""
    return lambda: tuple(level * devices for level in gradients()[part])
