"""PKD against mmrazor's loss."""

import torch

from tests.golden.cases import Case, check, each_case
from workers.distillers.pkd import pattern_loss


@each_case("pkd")
def test_loss(case: Case, dtype: torch.dtype) -> None:
    student = case.tensor("student", dtype, grad=True)
    check(case.outputs["loss"], pattern_loss(student, case.tensor("teacher", dtype)), dtype, [student])
