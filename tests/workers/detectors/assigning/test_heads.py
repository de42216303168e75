"""Batched assignments against mmdet's own, image by image, on random scenes: every label, weight and target is the same number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmdet.models.dense_heads import ATSSHead, FCOSHead, GFLHead, RetinaHead
from mmengine.structures import InstanceData

from studies.spec import Network
from workers.detectors import build
from workers.geometry import padded

CLASSES = 10
IMAGES = 4
HEADS = {
    "gfl": (Network(detector="gfl", backbone="resnet18", width=8), GFLHead),
    "atss": (Network(detector="atss", backbone="resnet18", width=8), ATSSHead),
    "retinanet": (Network(detector="retinanet", backbone="resnet18", width=8), RetinaHead),
    "fcos": (Network(detector="fcos", backbone="resnet18", width=8), FCOSHead),
    "fcos, centres": (Network(detector="fcos", backbone="resnet18", width=8, form="centre_sampling"), FCOSHead),
}


def scene(generator: torch.Generator, size: tuple[int, int], whole: bool) -> InstanceData:
    """None to twelve boxes of any size and place; some lie on each other, some in whole pixels, where distances and overlaps are equal."""
    height, width = size
    count = int(torch.randint(0, 13, (1,), generator=generator))
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 0.9
    sides = 2 + torch.rand(count, 2, generator=generator).square() * torch.tensor([width, height])
    boxes = torch.cat([corner, torch.minimum(corner + sides, torch.tensor([width, height]).float())], 1)
    if whole:
        boxes = torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], 1)
    if count > 4:
        boxes[1] = boxes[0]  # an object behind another one
    return InstanceData(bboxes=boxes, labels=torch.randint(0, CLASSES, (count,), generator=generator))


def batch(seed: int, one_shape: bool) -> tuple[tuple[int, int], list[InstanceData], list[dict[str, Any]]]:
    """Size of a padded batch, the objects of its images and what mmdet knows of them; images of one shape, or padded to the largest."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(int(h) * 32, int(w) * 32) for h, w in torch.randint(2, 7, (IMAGES, 2), generator=generator)]
    if one_shape:
        shapes = [shapes[0]] * IMAGES
    size = max(h for h, _ in shapes), max(w for _, w in shapes)
    metas = [{"img_shape": shape, "pad_shape": shape, "batch_input_shape": size} for shape in shapes]
    return size, [scene(generator, shape, whole=one_shape and seed % 2 == 0) for shape in shapes], metas


def targets(head: Any, size: tuple[int, int], instances: list[InstanceData], metas: list[dict[str, Any]]) -> tuple[Any, ...]:
    """What a head's assignment gives its loss."""
    sizes = [(-(-size[0] // stride[0]), -(-size[1] // stride[0])) for stride in head.prior_generator.strides]
    if isinstance(head, FCOSHead):
        return head.get_targets(head.prior_generator.grid_priors(sizes, device="cpu"), instances)
    return head.get_targets(*head.get_anchors(sizes, metas, device="cpu"), instances, metas)


def same(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> bool:
    flat = [[each for part in parts for each in (part if isinstance(part, (list, tuple)) else [part])] for parts in (ours, theirs)]
    pairs = list(zip(*flat, strict=True))
    return all(torch.equal(torch.as_tensor(a).squeeze(), torch.as_tensor(b).squeeze()) for a, b in pairs)


def check(name: str, seeds: range) -> None:
    network, plain = HEADS[name]
    head: Any = build(network, CLASSES).bbox_head
    assert isinstance(head, plain)
    assert type(head) is not plain, "the head does not assign in batches"
    for seed in seeds:
        for one_shape in (True, False):
            size, instances, metas = batch(seed, one_shape)
            ours = targets(head, size, instances, metas)
            batched, head.__class__ = type(head), plain  # mmdet's own
            theirs = targets(head, size, instances, metas)
            head.__class__ = batched
            assert same(ours, theirs), f"seed {seed}, {'one shape' if one_shape else 'shapes of their own'}"


@pytest.mark.parametrize("name", HEADS)
def test_batches_are_assigned_as_mmdet_assigns_images(name: str) -> None:
    check(name, range(10))


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_a_thousand_scenes_are_assigned_as_mmdet_does(name: str) -> None:
    check(name, range(1000, 1000 + 1000 // (2 * IMAGES)))


@pytest.mark.parametrize("name", HEADS)
def test_losses_are_the_same_numbers(name: str) -> None:
    network, plain = HEADS[name]
    head: Any = build(network, CLASSES).bbox_head
    size, instances, metas = batch(7, one_shape=False)
    levels = [torch.randn(IMAGES, 32, -(-size[0] // stride[0]), -(-size[1] // stride[0])) for stride in head.prior_generator.strides]
    ours = head.loss_by_feat(*head(levels), instances, metas)
    head.__class__ = plain
    theirs = head.loss_by_feat(*head(levels), instances, metas)
    assert ours.keys() == theirs.keys()
    assert all(same((ours[loss],), (theirs[loss],)) for loss in ours)


def test_memory_bounds_the_images_that_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    head: Any = build(HEADS["gfl"][0], CLASSES).bbox_head
    at_once = targets(head, *batch(3, one_shape=True))
    monkeypatch.setattr(padded, "PAIRS", 1)  # one image at a time
    assert same(targets(head, *batch(3, one_shape=True)), at_once)
