"""CrossKD against the released code: re-standardised features and the two distillation losses of its GFL form."""

import numpy as np
import torch

from tests.golden.cases import Case, check, each_case
from workers.distillers.crosskd import quality_focal, restandardised, sides_divergence

REG_WEIGHT = 4.0  # of the released GFL config, part of the golden value


@each_case("crosskd")
def test_losses(case: Case, dtype: torch.dtype) -> None:
    feature, logits, sides = (case.tensor(name, dtype, grad=True) for name in ("stu_feat", "stu_cls", "stu_reg"))
    inputs, valid, theirs = [feature, logits, sides], case.tensor("label_weights", dtype), case.tensor("tea_cls", dtype)

    target = case.tensor("tea_feat", dtype)
    aligned = restandardised(feature, target)
    check(case.outputs["align_mse"], (aligned - target).square().mean(), dtype, inputs)
    np.testing.assert_allclose(aligned.detach().numpy(), case.arrays_out["aligned"], rtol=1e-4, atol=1e-6)

    cls = (valid * quality_focal(logits, theirs, classes=1)).sum() / case.params["avg"]
    check(case.outputs["cls_kd"], cls, dtype, inputs)

    confidence = theirs.amax(1).sigmoid() * (valid > 0)  # rows in the order of image, row, column
    bins = sides.shape[1] // 4
    distance = sides_divergence(sides, case.tensor("tea_reg", dtype), bins).flatten() / 4
    check(case.outputs["reg_kd"], REG_WEIGHT * (confidence * distance).sum(), dtype, inputs)
    check(case.outputs["reg_weight_sum"], confidence.sum(), dtype)
