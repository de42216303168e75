"""A small step of two imaginary detectors, for distillers' tests: random features, anchors and boxes of a 64 x 64 input."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from workers.distillers.base import NetworkInfo, Outputs, RoIOutputs, Step, Targets

IMAGE = 64
CLASSES = 3
ANCHORS = 2  # per cell
STUDENT, TEACHER = 6, 8  # channels of every pyramid level
STUDENT_STAGES, TEACHER_STAGES = (4, 8, 16, 32), (8, 16, 32, 64)
BOXES = torch.tensor([[4.0, 6.0, 30.0, 40.0], [20.0, 20.0, 60.0, 62.0]])


@dataclass(frozen=True)
class Kind:
    """What differs between a one-stage and a two-stage step."""

    stages: str
    detector: str
    strides: tuple[int, ...]
    classes: int  # of the dense head


ONE = Kind("one", "retinanet", (8, 16, 32), CLASSES)
TWO = Kind("two", "faster_rcnn", (4, 8, 16), 1)


def network(kind: Kind, teacher: bool, model: nn.Module | None = None) -> NetworkInfo:
    """Facts of the student or the teacher."""
    return NetworkInfo(
        detector=kind.detector,
        backbone="resnet18",
        stages=kind.stages,
        neck_channels=(TEACHER if teacher else STUDENT,) * len(kind.strides),
        backbone_channels=TEACHER_STAGES if teacher else STUDENT_STAGES,
        strides=kind.strides,
        classes=kind.classes,
        anchors_per_cell=ANCHORS,
        bins=None,
        model=model or nn.Identity(),
    )


def outputs(kind: Kind, images: int, teacher: bool) -> Outputs:
    """Random outputs of one network; the student's require gradients."""

    def maps(channels: tuple[int, ...] | int, strides: tuple[int, ...]) -> tuple[Tensor, ...]:
        each = channels if isinstance(channels, tuple) else (channels,) * len(strides)
        return tuple(torch.randn(images, c, IMAGE // s, IMAGE // s, requires_grad=not teacher) for c, s in zip(each, strides, strict=True))

    stages = TEACHER_STAGES if teacher else STUDENT_STAGES
    return Outputs(
        backbone=maps(stages, (4, 8, 16, 32)),
        neck=maps(TEACHER if teacher else STUDENT, kind.strides),
        logits=maps(ANCHORS * kind.classes, kind.strides),
        boxes=maps(ANCHORS * 4, kind.strides),
        pre_relu=maps(stages, (4, 8, 16, 32)),
    )


def anchors(kind: Kind) -> list[Tensor]:
    """A square and a wide anchor on every cell."""
    levels = []
    for stride in kind.strides:
        y, x = torch.meshgrid(torch.arange(IMAGE // stride) * stride, torch.arange(IMAGE // stride) * stride, indexing="ij")
        corner = torch.stack([x, y], dim=2).view(-1, 1, 2) + stride / 2
        half = torch.tensor([[2.0, 2.0], [3.0, 1.5]]) * stride
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


def make_step(kind: Kind = ONE, objects: bool = True, images: int = 2, iteration: int = 1000, seed: int = 0) -> Step:
    """A step of `images` images with two boxes each, or none."""
    torch.manual_seed(seed)
    boxes = BOXES if objects else BOXES[:0]
    assigned = targets(kind, images, objects)
    step = Step(
        student=outputs(kind, images, teacher=False),
        teacher=outputs(kind, images, teacher=True),
        gt_boxes=[boxes] * images,
        gt_labels=[torch.zeros(len(boxes), dtype=torch.long)] * images,
        image_shape=(IMAGE, IMAGE),
        iteration=iteration,
        anchors=lambda: anchors(kind),
        targets=lambda: assigned,
    )
    if kind.stages == "one":
        return step
    student, teacher = rois(teacher=False, objects=objects), rois(teacher=True, objects=objects)
    shared = {"labels": student.labels, "bbox_targets": student.bbox_targets, "bbox_weights": student.bbox_weights}
    return replace(step, student_rois=student, teacher_rois=replace(teacher, **shared))
