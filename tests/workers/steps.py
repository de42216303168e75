"""Small made-up training steps for distillers: random outputs of two networks, boxes, and an assignment."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workers.distillers.base import NetworkInfo, Outputs, Step, Targets

SIZES, STRIDES, CLASSES, BINS = (8, 4, 2), (8, 16, 32), 5, 17


def network(channels: int, detector: str = "gfl", anchors: int = 1) -> NetworkInfo:
    """A network with a neck of `channels` on three levels."""
    return NetworkInfo(detector, "resnet18", "one", (channels,) * 3, (), STRIDES, CLASSES, anchors, BINS, nn.Identity())


def outputs(channels: int, anchors: int, grad: bool) -> Outputs:
    """Random outputs for two images of 64 x 64 pixels."""

    def maps(count: int) -> tuple[Tensor, ...]:
        return tuple(torch.randn(2, count, size, size, requires_grad=grad) for size in SIZES)

    return Outputs(neck=maps(channels), logits=maps(anchors * CLASSES), boxes=maps(anchors * 4 * BINS))


def anchor_boxes(anchors: int) -> list[Tensor]:
    """Square anchors of 2, 4, ... strides around every cell's centre."""
    levels = []
    for size, stride in zip(SIZES, STRIDES, strict=True):
        y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        centre = (torch.stack([x, y], 2).view(-1, 1, 2) + 0.5) * stride
        half = torch.tensor([stride * 2.0**scale for scale in range(anchors)]).view(1, -1, 1)
        levels.append(torch.cat([centre - half, centre + half], 2).view(-1, 4))
    return levels


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


def scene(detector: str = "gfl", anchors: int = 1, objects: bool = True, student_channels: int = 6, teacher_channels: int = 8) -> Scene:
    """Two images, the first with two boxes (none with `objects=False`), the second always empty."""
    torch.manual_seed(0)
    boxes = torch.tensor([[6.0, 6.0, 30.0, 34.0], [28.0, 20.0, 62.0, 60.0]]) if objects else torch.zeros(0, 4)
    labels = [torch.full((2, size * size * anchors), CLASSES) for size in SIZES]
    if objects:
        for level, cell in ((0, 2 * 8 + 2), (0, 3 * 8 + 2), (1, 2 * 4 + 2)):
            labels[level][0, cell * anchors] = 1
    step = Step(
        student=outputs(student_channels, anchors, grad=True),
        teacher=outputs(teacher_channels, anchors, grad=False),
        gt_boxes=[boxes, torch.zeros(0, 4)],
        gt_labels=[torch.ones(len(boxes), dtype=torch.long), torch.zeros(0, dtype=torch.long)],
        image_shape=(64, 64),
        iteration=0,
        anchors=lambda: anchor_boxes(anchors),
        targets=lambda: Targets(tuple(labels), tuple(torch.ones(lab.shape) for lab in labels)),
    )
    return Scene(step, network(student_channels, detector, anchors), network(teacher_channels, detector, anchors))
