"""FGFI against its authors' code: the mask of near anchors, and the paper's loss."""

import numpy as np
import torch
from torch import Tensor

from tests.golden.cases import Case, check, each_case
from workers.distillers.fgfi import paper_loss
from workers.geometry.boxes import one_pixel_more
from workers.geometry.regions import near_anchors, near_masks

PAPER_WEIGHT = 0.01


def grid_anchors(case: Case, dtype: torch.dtype) -> Tensor:
    """All anchors of the one feature map, (H*W*A, 4), cell by cell."""
    height, width, stride = (case.params[key] for key in ("H", "W", "stride"))
    y, x = torch.meshgrid(torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij")
    shifts = torch.stack([x, y, x, y], dim=2).view(-1, 1, 4)
    return (shifts + case.tensor("base_anchors", dtype)).view(-1, 4)


@each_case("fgfi")
def test_fgfi(case: Case, dtype: torch.dtype) -> None:
    size, psi = (case.params["H"], case.params["W"]), case.params["phi"]
    anchors, boxes = one_pixel_more(grid_anchors(case, dtype)), one_pixel_more(case.tensor("gt", dtype))
    near = near_anchors([anchors], [boxes], psi, own_level=False)
    np.testing.assert_array_equal(near.view(*size, -1).sum(2), case.arrays_out["mask_count"])
    (mask,) = near_masks([anchors], [boxes], [size], psi, own_level=False)
    np.testing.assert_array_equal(mask[0], case.arrays_out["mask"])

    student, teacher = case.tensor("stu_adapted", dtype, grad=True), case.tensor("teacher", dtype)
    loss = paper_loss([teacher], [student], [mask])
    check(case.outputs["loss_w1"], loss, dtype, [student])
    check(case.outputs["loss"], PAPER_WEIGHT * loss, dtype, [student])
