"""DeFeat, and FGFI's variant for pyramids, against DeFeat's released code: masks of every level, and every term."""

import numpy as np
import torch
from torch import Tensor, nn

from tests.golden.cases import Case, check, each_case
from workers.distillers.defeat import decoupled_loss, head_loss
from workers.distillers.fgfi import fpn_loss
from workers.geometry.cells import level_masks
from workers.geometry.regions import near_masks

NECK, HEAD, FPN = (3.0, 12.0), (2.0, 2.0), 3.0  # weights of the reference's terms
RPN_SCALE, RPN_RATIOS, PSI = 8, (0.5, 1.0, 2.0), 0.5  # the reference's anchors, in strides


def features(case: Case, name: str, dtype: torch.dtype, grad: bool = False) -> list[Tensor]:
    """The maps `name`0, `name`1, ... of a case."""
    count = sum(key.startswith(name) for key in case.arrays_in)
    return [case.tensor(f"{name}{level}", dtype, grad) for level in range(count)]


def rpn_anchors(size: tuple[int, int], stride: int, dtype: torch.dtype) -> Tensor:
    """Anchors of an RPN level, (H*W*3, 4), centred on the cells' corners."""
    root = torch.tensor(RPN_RATIOS, dtype=dtype).sqrt()
    half = torch.stack([RPN_SCALE * stride / root, RPN_SCALE * stride * root], dim=1) / 2
    y, x = torch.meshgrid(torch.arange(size[0]) * stride, torch.arange(size[1]) * stride, indexing="ij")
    corners = torch.stack([x, y], dim=2).view(-1, 1, 2).to(dtype)
    return torch.cat([corners - half, corners + half], dim=2).view(-1, 4)


def geometry(case: Case, dtype: torch.dtype) -> tuple[list[Tensor], list[tuple[int, int]], tuple[int, ...]]:
    """Boxes per image, and size and stride of every level."""
    boxes = [case.tensor(f"gt_{image}", dtype) for image in range(case.params["N"])]
    sizes = [(f.shape[2], f.shape[3]) for f in features(case, "stu_", dtype)]
    return boxes, sizes, tuple(case.params["strides"])


@each_case("defeat")
def test_neck(case: Case, dtype: torch.dtype) -> None:
    boxes, sizes, strides = geometry(case, dtype)
    masks = level_masks(boxes, sizes, strides)
    for level, mask in enumerate(masks):
        np.testing.assert_array_equal(mask, case.arrays_out[f"mask_gt_{level}"])
    student, teacher = features(case, "stu_", dtype, grad=True), features(case, "tea_", dtype)
    for name, weight, loss in zip(("fg", "bg"), NECK, decoupled_loss(teacher, student, masks), strict=True):
        check(neck_part(case.outputs[f"defeat_neck_{name}"], len(student)), weight * loss, dtype, student)


@each_case("defeat")
def test_fgfi_on_a_pyramid(case: Case, dtype: torch.dtype) -> None:
    boxes, sizes, strides = geometry(case, dtype)
    anchors = [rpn_anchors(size, stride, dtype) for size, stride in zip(sizes, strides, strict=True)]
    masks = near_masks(anchors, boxes, sizes, PSI, own_level=True)
    for level, mask in enumerate(masks):
        np.testing.assert_array_equal(mask, case.arrays_out[f"mask_roi_{level}"])
    student, teacher = features(case, "stu_", dtype, grad=True), features(case, "tea_", dtype)
    check(neck_part(case.outputs["fgfi_fpn_neck"], len(student)), FPN * fpn_loss(teacher, student, masks), dtype, student)


@each_case("defeat")
def test_backbone(case: Case, dtype: torch.dtype) -> None:
    boxes, sizes, strides = geometry(case, dtype)
    (mask,) = level_masks(boxes, sizes[:1], strides[:1])
    np.testing.assert_array_equal(mask, case.arrays_out["mask_bb"])
    student, teacher = features(case, "bb_stu_", dtype, grad=True), features(case, "bb_tea_", dtype)
    masks = [nn.functional.interpolate(mask[:, None], size=t.shape[2:])[:, 0] for t in teacher]
    levels = len(sizes)
    for name, loss in zip(("fg", "bg"), decoupled_loss(teacher, student, masks), strict=True):
        check(norms_of(case.outputs[f"defeat_bb_{name}"], slice(levels, levels + len(student))), loss, dtype, student)


@each_case("defeat")
def test_head(case: Case, dtype: torch.dtype) -> None:
    student, teacher = case.tensor("head_s", dtype, grad=True), case.tensor("head_t", dtype)
    positive = case.tensor("head_labels", dtype) < case.params["background_label"]
    for name, weight, loss in zip(("fg", "bg"), HEAD, head_loss(teacher, student, positive), strict=True):
        check(norms_of(case.outputs[f"defeat_hcls_{name}"], slice(-1, None)), weight * loss, dtype, [student])


def norms_of(expected: dict[str, object], part: slice) -> dict[str, object]:
    """The expectation with the gradient norms of some of the inputs: neck levels, backbone stages, head logits, in this order."""
    return {key: value[part] if isinstance(value, list) else value for key, value in expected.items()}


def neck_part(expected: dict[str, object], levels: int) -> dict[str, object]:
    """The expectation with the gradient norms of the neck levels alone."""
    return norms_of(expected, slice(levels))
