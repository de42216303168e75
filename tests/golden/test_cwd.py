"""CWD against mmrazor's KL and the cross-entropy of pppppM/mmdetection-distiller."""

import torch

from tests.golden.cases import Case, check, each_case
from workers.distillers.cwd import channel_divergence


@each_case("cwd")
def test_divergences(case: Case, dtype: torch.dtype) -> None:
    student, teacher, tau = case.tensor("student", dtype, grad=True), case.tensor("teacher", dtype), case.params["tau"]
    check(case.outputs["kl"], channel_divergence(student, teacher, tau), dtype, [student])
    check(case.outputs["ce"], channel_divergence(student, teacher, tau, "cross_entropy"), dtype, [student])
