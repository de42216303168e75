"""Masks from ground-truth boxes, held against the plain loops of the released code on random boxes."""

import math

import torch
from torch import Tensor

from workers.distillation.shares import centred_priors, overlapping_priors, point_priors
from workers.geometry.cells import box_levels, level_masks
from workers.geometry.regions import near_masks

SIZES = [(13, 20), (7, 10), (4, 5)]  # of a 104 x 160 image, the last row and column partly outside
STRIDES = (8, 16, 32)


def random_boxes(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([159.0, 103.0])
    sides = torch.rand(count, 2, generator=generator).square() * 150
    return torch.cat([corner, torch.minimum(corner + sides, torch.tensor([160.0, 104.0]))], dim=1)


def looped(boxes: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Cells of the boxes, one box and one slice at a time."""
    mask = torch.zeros(size)
    for x0, y0, x1, y1 in (boxes / stride).tolist():
        left, top, right, bottom = int(x0), int(y0), min(int(x1), size[1]), min(int(y1), size[0])
        if left == right or top == bottom:
            mask[top, left] = 1
        else:
            mask[top:bottom, left:right] = 1
    return mask


def test_cells_of_boxes_are_those_of_the_loop() -> None:
    boxes = random_boxes(200, seed=1)
    for size, stride in zip(SIZES, STRIDES, strict=True):
        for group in boxes.split(5):
            (mask,) = level_masks([group], [size], (stride,))  # a level of its own takes all boxes
            assert torch.equal(mask[0], looped(group, size, stride))


def test_every_box_marks_its_own_level_only() -> None:
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0], [0.0, 0.0, 120.0, 103.0], [8.0, 8.0, 8.0, 8.0]])
    assert box_levels(boxes, 3).tolist() == [0, 1, 0]  # sqrt(121 * 104) / 56 is just above 2
    masks = level_masks([boxes[:1], boxes[1:2], boxes[:0]], SIZES, STRIDES)
    assert [mask.shape for mask in masks] == [(3, *size) for size in SIZES]
    assert masks[0][0].sum() == 25
    assert masks[1][1].sum() == 7 * 6
    assert sum(float(mask.sum()) for mask in masks) == 25 + 42


def test_boxes_above_the_last_level_belong_to_it() -> None:
    assert box_levels(torch.tensor([[0.0, 0.0, 5000.0, 5000.0]]), 5).tolist() == [4]


def test_near_anchors_of_an_image_without_boxes_are_none() -> None:
    anchors = [point_priors(size, stride, torch.zeros(1)) for size, stride in zip(SIZES, STRIDES, strict=True)]
    for own_level in (True, False):
        masks = near_masks(anchors, [torch.zeros(0, 4), random_boxes(3, seed=2)], SIZES, 0.5, own_level)
        assert all(mask[0].sum() == 0 for mask in masks)
        assert sum(float(mask[1].sum()) for mask in masks) > 0


def test_a_box_is_imitated_on_one_level_or_wherever_its_best_anchors_are() -> None:
    anchors = [point_priors(size, stride, torch.zeros(1)) for size, stride in zip(SIZES, STRIDES, strict=True)]
    box = torch.tensor([[40.0, 40.0, 88.0, 88.0]])  # the side of a prior of the second level, on the first by the rule of 56
    own = [float(mask.sum()) for mask in near_masks(anchors, [box], SIZES, 0.5, own_level=True)]
    best = [float(mask.sum()) for mask in near_masks(anchors, [box], SIZES, 0.5, own_level=False)]
    assert own[0] > 0
    assert own[1:] == [0, 0]
    assert best[1] > 0
    assert best[0] == 0  # IoU of a quarter is half the best at most


def test_point_priors_are_three_strides_wide_around_cell_centres() -> None:
    priors = point_priors((2, 3), 8, torch.zeros(1, dtype=torch.float64))
    assert priors.shape == (6, 4)
    assert priors[4].tolist() == [0.0, 0.0, 24.0, 24.0]


def test_foreground_of_pdf_distil_needs_scale_and_overlap() -> None:
    side = 160.0
    priors = torch.cat([point_priors((20, 20), 8, torch.zeros(1)), point_priors((10, 10), 16, torch.zeros(1))]) / side
    small = torch.tensor([[40.0, 40.0, 64.0, 64.0]]) / side
    near = overlapping_priors(priors, small, points=False)
    assert near[:400].sum() > 0
    assert near[400:].sum() == 0
    inside = centred_priors(priors, small)
    assert inside[:400].sum() == 9  # cell centres 44, 52, 60 along each axis
    assert inside[400:].sum() == 0  # the size 24 is not above half of 48
    assert overlapping_priors(priors, small[:0], points=True).sum() == 0
    assert centred_priors(priors, small[:0]).sum() == 0


def test_points_count_by_the_geometric_mean_of_iou_and_centerness() -> None:
    prior, box = torch.tensor([[0.2, 0.2, 0.4, 0.4]]), torch.tensor([[0.2, 0.2, 0.5, 0.4]])
    score = math.sqrt(0.04 / 0.06 * (0.1 / 0.2))  # IoU 2/3, centerness 1/2
    assert score > 0.5
    assert overlapping_priors(prior, box, points=True).tolist() == [1.0]
    shifted = torch.tensor([[0.2, 0.2, 0.7, 0.4]])  # IoU 0.4, centerness 0.25
    assert overlapping_priors(prior, shifted, points=True).tolist() == [0.0]
