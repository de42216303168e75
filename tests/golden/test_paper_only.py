"""Chen 2017, Li 2017 and PAD, which have no official code, against values computed from their published formulas."""

import torch

from tests.golden.cases import Case, check, each_case
from workers.distillers.chen2017 import bounded_regression, hint_loss, soft_cross_entropy
from workers.distillers.li2017 import mimic_loss
from workers.distillers.pad import paper_loss

BACKGROUND, BACKGROUND_WEIGHT = 0, 1.5  # class index and weight in the cases


@each_case("paper_only")
def test_paper_only(case: Case, dtype: torch.dtype) -> None:
    logits, deltas, features = (case.tensor(f"stu_{name}", dtype, grad=True) for name in ("logits", "reg", "feat"))
    inputs = [logits, deltas, features]
    teacher = {name: case.tensor(f"tea_{name}", dtype) for name in ("logits", "reg", "feat")}
    target = case.tensor("reg_target", dtype)

    weights = torch.ones_like(logits[0])
    weights[BACKGROUND] = BACKGROUND_WEIGHT
    check(case.outputs["chen_soft"], soft_cross_entropy(teacher["logits"], logits, weights), dtype, inputs)
    every = torch.ones(len(deltas), dtype=dtype)
    bounded = bounded_regression(teacher["reg"], deltas, target, every, case.params["m"])
    check(case.outputs["chen_bounded"], bounded, dtype, inputs)
    check(case.outputs["chen_hint"], hint_loss(teacher["feat"], features), dtype, inputs)
    check(case.outputs["li_mimic"], mimic_loss(teacher["feat"], features), dtype, inputs)
    check(case.outputs["pad"], paper_loss(teacher["feat"], features, case.tensor("log_var", dtype)), dtype, inputs)
