"""PDF-Distil's losses, weights and metric against the released code and the paper's equations."""

import numpy as np
import torch
from torch import Tensor

from tests.golden.cases import Case, check, each_case
from workers.distillation.imitation import share
from workers.distillers.pdf_distil import code_loss, difference, map_weights, paper_loss
from workers.evaluation.differences import prediction_difference

# Outputs of the released code: the row of Table 1, and how often the factor; only October's halves the equal weights.
CODE = {
    "oct21/mse": ("all", 1),
    "oct21/pad_l1": ("l1", 1),
    "oct21/pad_euc": ("l2_root", 1),
    "oct21/pad_kl": ("kl", 1),
    "oct21/most-diff": ("most_different_50", 1),
    "oct21/most-same": ("most_similar_50", 1),
    "oct21/most-diff2": ("most_different_25", 1),
    "oct21/most-same2": ("most_similar_25", 1),
    "jun21/mse": ("all", 2),
    "jun21/most-diff": ("most_different_50", 1),
    "jun21/most-same": ("most_similar_50", 1),
    "jun21/pad_kl": ("kl", 1),
    "head/mse": ("all", 2),
    "head/pdf": ("l2", 1),
}
PAPER = {
    "paper/l1": "l1",
    "paper/l2": "l2",
    "paper/l2_root": "l2_root",
    "paper/kl": "kl",
    "paper/hard25_diff": "most_different_25",
    "paper/hard50_diff": "most_different_50",
    "paper/hard25_same": "most_similar_25",
    "paper/hard50_same": "most_similar_50",
}


class Inputs:
    """A case's features and logits, cut into levels."""

    def __init__(self, case: Case, dtype: torch.dtype) -> None:
        self.case, self.dtype = case, dtype
        self.sizes = [height * width for height, width in case.params["levels"]]
        self.teacher, self.student = case.tensor("conf_t", dtype), case.tensor("conf_s", dtype)
        self.feature = case.tensor("fea_s", dtype, grad=True)
        self.square = (case.tensor("fea_t", dtype) - self.feature).square().mean(2)  # (N, L)

    def levels(self, values: Tensor) -> list[Tensor]:
        return list(values.split(self.sizes, 1))

    def different(self, strategy: str) -> Tensor:
        kind = "l1" if strategy.startswith(("most", "all")) else strategy
        per_anchor = difference(self.teacher, self.student, kind, classes=2)
        return per_anchor.unflatten(1, (-1, self.case.params["M"])).sum(2)  # (N, L)


@each_case("pdf")
def test_losses(case: Case, dtype: torch.dtype) -> None:
    inputs = Inputs(case, dtype)
    tested = set()
    for name, (strategy, times) in CODE.items():
        if name in case.outputs:
            loss = code_loss(inputs.levels(inputs.square), inputs.levels(inputs.different(strategy)), strategy)
            check(case.outputs[name], times * case.params["factor"] * loss, dtype, [inputs.feature])
            tested.add(name)
    for name, strategy in PAPER.items():
        if name in case.outputs:
            loss = paper_loss(inputs.levels(inputs.square), inputs.levels(inputs.different(strategy)), strategy)
            check(case.outputs[name], loss, dtype, [inputs.feature])
            tested.add(name)
    rivals = {name for name in case.outputs if name.endswith(("/gauss", "/fg-only", "/decouple"))}
    assert case.outputs.keys() - tested - rivals == {"d_pred"}


@each_case("pdf")
def test_weights(case: Case, dtype: torch.dtype) -> None:
    inputs = Inputs(case, dtype)
    np.testing.assert_allclose(share(inputs.different("l2_root")).numpy(), case.arrays_out["weight_oct21_euc"], rtol=1e-4)
    for name, expected in case.arrays_out.items():
        if name.startswith("weight_paper_"):
            strategy = name.removeprefix("weight_paper_")
            weights = [len(d[0]) * map_weights(d, strategy) for d in inputs.levels(inputs.different(strategy))]
            np.testing.assert_allclose(torch.cat(weights, 1).numpy(), expected, rtol=1e-4)


@each_case("pdf")
def test_prediction_difference(case: Case, dtype: torch.dtype) -> None:
    teacher, student = case.tensor("conf_t", dtype), case.tensor("conf_s", dtype)
    check(case.outputs["d_pred"], prediction_difference([teacher], [student]).mean(), dtype)
    anchors = [size * case.params["M"] for size in (h * w for h, w in case.params["levels"])]
    check(case.outputs["d_pred"], prediction_difference(teacher.split(anchors, 1), student.split(anchors, 1)).mean(), dtype)
