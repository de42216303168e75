"""The divergence of Localization Distillation against the released KL loss."""

import numpy as np
import torch

from tests.golden.cases import Case, check, each_case
from workers.distillers.ld import divergence


@each_case("ld_kl")
def test_divergence(case: Case, dtype: torch.dtype) -> None:
    student, teacher, weight = case.tensor("student", dtype, grad=True), case.tensor("teacher", dtype), case.tensor("weight", dtype)
    row = divergence(student, teacher, case.params["T"])
    np.testing.assert_allclose(row.detach().numpy(), case.arrays_out["row"], rtol=1e-4)
    values = {
        "loss_mean": row.mean(),
        "loss_weighted_avg4": (weight * row).sum() / 4,
        "loss_weighted_avg4_w025": 0.25 * (weight * row).sum() / 4,
        "paper_sum_over_bins": divergence(student, teacher, case.params["T"], total=True).mean(),
    }
    assert values.keys() >= case.outputs.keys()
    for name, expected in case.outputs.items():
        check(expected, values[name], dtype, [student])
