"""OFD against its authors' code: margins from batch norm, and the partial distance."""

import numpy as np
import torch

from tests.golden.cases import Case, check, each_case
from workers.distillers.ofd import margins, partial_distance


@each_case("ofd")
def test_ofd(case: Case, dtype: torch.dtype) -> None:
    margin = margins(case.tensor("bn_weight", dtype), case.tensor("bn_bias", dtype))
    np.testing.assert_allclose(margin, case.arrays_out["margin"], rtol=2e-6, atol=1e-7)  # the reference is stored in float32
    student, teacher = case.tensor("student", dtype, grad=True), case.tensor("teacher", dtype)
    distance = partial_distance(teacher, student, margin)
    check(case.outputs["loss_sum"], distance, dtype, [student])
    check(case.outputs["total_1e3"], 1e-3 * distance / len(student), dtype, [student])
