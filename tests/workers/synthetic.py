"""Made-up training data: batches for real detectors, and small steps of two imaginary ones, to test distillers on.

`batch` gives images with boxes and masks. `make_step` gives a step of random outputs on a 64 x 64 input, one- or two-stage;
`scene` one of detectors with box distributions, together with the networks' facts.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torch import Tensor, nn

from workers.distillation.captures import Assignment, Backbone, RoIs
from workers.distillation.step import NetworkInfo, Outputs, RoIOutputs, Step, Targets
from workers.distillers.ofd import PreReLU

IMAGE = 64
CLASSES, BINS = 3, 17
STUDENT, TEACHER = 6, 8  # channels of every pyramid level
STUDENT_STAGES, TEACHER_STAGES = (4, 8, 16, 32), (8, 16, 32, 64)
BOXES = torch.tensor([[4.0, 6.0, 30.0, 40.0], [20.0, 20.0, 60.0, 62.0]])


@dataclass(frozen=True)
class Kind:
    """What differs between steps. `classes`: of the dense head. `bins`: of a box side's distribution, or None."""

    stages: str
    detector: str
    strides: tuple[int, ...]
    classes: int
    anchors: int = 2  # per cell
    bins: int | None = None


ONE = Kind("one", "retinanet", (8, 16, 32), CLASSES)
TWO = Kind("two", "faster_rcnn", (4, 8, 16), 1)


def network(kind: Kind, teacher: bool, model: nn.Module | None = None, channels: int | None = None) -> NetworkInfo:
    """Facts of the student or the teacher. `channels`: of its neck, instead of its own."""
    return NetworkInfo(
        detector=kind.detector,
        backbone="resnet18",
        stages=kind.stages,
        neck_channels=(channels or (TEACHER if teacher else STUDENT),) * len(kind.strides),
        backbone_channels=TEACHER_STAGES if teacher else STUDENT_STAGES,
        strides=kind.strides,
        classes=kind.classes,
        anchors_per_cell=kind.anchors,
        bins=kind.bins,
        model=model or nn.Identity(),
    )


def outputs(kind: Kind, images: int, teacher: bool, channels: int | None = None) -> Outputs:
    """Random outputs of one network; the student's require gradients."""

    def maps(counts: tuple[int, ...] | int, strides: tuple[int, ...]) -> tuple[Tensor, ...]:
        each = counts if isinstance(counts, tuple) else (counts,) * len(strides)
        return tuple(torch.randn(images, c, IMAGE // s, IMAGE // s, requires_grad=not teacher) for c, s in zip(each, strides, strict=True))

    stages = TEACHER_STAGES if teacher else STUDENT_STAGES
    backbone = maps(stages, (4, 8, 16, 32))
    return Outputs(
        neck=maps(channels or (TEACHER if teacher else STUDENT), kind.strides),
        logits=maps(kind.anchors * kind.classes, kind.strides),
        boxes=maps(kind.anchors * 4 * (kind.bins or 1), kind.strides),
        captured={Backbone: backbone, PreReLU: maps(stages, (4, 8, 16, 32))},
    )


def anchors(kind: Kind) -> list[Tensor]:
    """Square anchors of 2, 4, ... strides on every cell."""
    levels = []
    for stride in kind.strides:
        y, x = torch.meshgrid(torch.arange(IMAGE // stride) * stride, torch.arange(IMAGE // stride) * stride, indexing="ij")
        corner = torch.stack([x, y], dim=2).view(-1, 1, 2) + stride / 2
        half = torch.tensor([stride * 2.0**scale for scale in range(kind.anchors)]).view(-1, 1).expand(-1, 2)
        levels.append(torch.cat([corner - half, corner + half], dim=2).view(-1, 4))
    return levels


def targets(kind: Kind, images: int, objects: bool) -> Targets:
    """Every seventh anchor sampled; of those every other positive where there are objects."""
    labels, weights, boxes = [], [], []
    for level in anchors(kind):
        sampled = torch.zeros(images, len(level))
        sampled[:, ::7] = 1
        label = torch.full((images, len(level)), kind.classes)
        if objects:
            label[:, ::14] = 0
        labels.append(label)
        weights.append(sampled)
        boxes.append(torch.randn(images, len(level), 4))
    return Targets(tuple(labels), tuple(weights), tuple(boxes))


def rois(teacher: bool, objects: bool, count: int = 12) -> RoIOutputs:
    """RoI outputs on `count` proposals, a third of them positive where there are objects."""
    positive = (torch.arange(count) < count // 3) & objects
    return RoIOutputs(
        rois=torch.zeros(count, 5),
        labels=torch.where(positive, torch.arange(count) % CLASSES, CLASSES),
        bbox_targets=torch.randn(count, 4),
        bbox_weights=positive.float()[:, None].expand(-1, 4),
        logits=torch.randn(count, CLASSES + 1, requires_grad=not teacher),
        deltas=torch.randn(count, 4 * CLASSES, requires_grad=not teacher),
        features=torch.randn(count, TEACHER if teacher else STUDENT, 7, 7, requires_grad=not teacher),
    )


def with_own(kind: Kind, images: int, objects: bool) -> Outputs:
    """The student's outputs, with its assignment."""
    assigned = targets(kind, images, objects)
    made = outputs(kind, images, teacher=False)
    made.captured[Assignment] = assigned
    return made


def make_step(kind: Kind = ONE, objects: bool = True, images: int = 2, iteration: int = 1000, seed: int = 0) -> Step:
    """A step of `images` images with two boxes each, or none."""
    torch.manual_seed(seed)
    boxes = BOXES if objects else BOXES[:0]
    student, teacher = with_own(kind, images, objects), outputs(kind, images, teacher=True)
    if kind.stages == "two":
        ours, theirs = rois(teacher=False, objects=objects), rois(teacher=True, objects=objects)
        student.captured[RoIs] = ours
        teacher.captured[RoIs] = replace(
            theirs, rois=ours.rois, labels=ours.labels, bbox_targets=ours.bbox_targets, bbox_weights=ours.bbox_weights
        )
    return Step(
        student=student,
        teacher=teacher,
        gt_boxes=[boxes] * images,
        gt_labels=[torch.zeros(len(boxes), dtype=torch.long)] * images,
        image_shape=(IMAGE, IMAGE),
        iteration=iteration,
        anchors=lambda: anchors(kind),
    )


@dataclass
class Scene:
    """A step and the two networks it belongs to."""

    step: Step
    student: NetworkInfo
    teacher: NetworkInfo

    def inputs(self) -> dict[str, tuple[Tensor, ...]]:
        """The student's outputs, by name."""
        return {"neck": self.step.student.neck, "logits": self.step.student.logits, "boxes": self.step.student.boxes}

    def reached(self, losses: dict[str, Tensor]) -> set[str]:
        """Which of the student's outputs get a nonzero, finite gradient from the sum of the losses."""
        names = self.inputs()
        flat = [m for maps in names.values() for m in maps]
        grads = iter(torch.autograd.grad(torch.stack(list(losses.values())).sum(), flat, allow_unused=True, retain_graph=True))
        found = {name: [next(grads) for _ in maps] for name, maps in names.items()}
        assert all(torch.isfinite(g).all() for gs in found.values() for g in gs if g is not None)
        return {name for name, gs in found.items() if any(g is not None and g.abs().sum() > 0 for g in gs)}


def scene(detector: str = "gfl", anchors: int = 1, objects: bool = True, teacher_channels: int = TEACHER) -> Scene:
    """Two images, the first with two boxes (none with `objects=False`) and three positives, the second always empty."""
    kind = replace(ONE, detector=detector, anchors=anchors, bins=BINS)
    step = make_step(kind, objects=objects, iteration=0)
    labels = [torch.full((2, (IMAGE // stride) ** 2 * anchors), CLASSES) for stride in kind.strides]
    if objects:
        for level, cell in ((0, 2 * 8 + 2), (0, 3 * 8 + 2), (1, 2 * 4 + 2)):
            labels[level][0, cell * anchors] = 1
    assigned = Targets(tuple(labels), tuple(torch.ones(level.shape) for level in labels))
    step.student.captured[Assignment] = assigned
    step = replace(
        step,
        teacher=outputs(kind, 2, teacher=True, channels=teacher_channels),
        gt_boxes=[step.gt_boxes[0], BOXES[:0]],
        gt_labels=[torch.ones_like(step.gt_labels[0]), step.gt_labels[1][:0]],
    )
    return Scene(step, network(kind, teacher=False), network(kind, teacher=True, channels=teacher_channels))


SIDE = 128  # pixels of a batch's images


def batch(objects: bool = True, images: int = 2, side: int = SIDE) -> dict[str, Any]:
    """Random square images with three boxes and masks each, or none, as a real detector takes them."""
    generator = torch.Generator().manual_seed(1)
    corners = [[8.0, 10, 60, 70], [70, 60, 110, 120], [30, 90, 50, 110]] if objects else []
    boxes = torch.tensor(corners).view(-1, 4) * (side / SIDE)
    masks = np.zeros((len(boxes), side, side), np.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = 1
    size = (side, side)
    metainfo = {"img_shape": size, "pad_shape": size, "ori_shape": size, "batch_input_shape": size, "scale_factor": (1.0, 1.0)}
    samples = []
    for _ in range(images):
        sample = DetDataSample(metainfo=metainfo)
        labels = torch.arange(len(boxes))
        sample.gt_instances = InstanceData(bboxes=boxes.clone(), labels=labels, masks=BitmapMasks(list(masks), side, side))
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return {"inputs": torch.randn(images, 3, side, side, generator=generator), "data_samples": samples}
