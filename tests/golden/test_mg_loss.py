"""The detection loss that goes with Mutual Guidance against the released code, values and gradients."""

from typing import Any

import torch

from tests.golden.cases import Case, check, each_case
from workers.detectors.mutual_guidance import Form, detection_loss

FORMS: dict[str, Form | None] = {"mg": "dynamic", "no_mg": None}


@each_case("mg_loss")
def test_loss(case: Case, dtype: torch.dtype) -> None:
    deltas, logits = case.tensor("regress", dtype, grad=True), case.tensor("classif", dtype, grad=True)
    priors = case.tensor("priors", dtype)
    targets = [case.tensor(f"targets_{image}", dtype) for image in range(len(deltas))]
    boxes, labels = [t[:, :4] for t in targets], [t[:, 4].long() - 1 for t in targets]
    for name, expected in case.outputs.items():
        box, cls = detection_loss(deltas, logits, priors, boxes, labels, FORMS[name], case.params["multi_anchor"])
        for value, key, gradient, leaf in ((box, "loss_l", "grad_loc", deltas), (cls, "loss_c", "grad_cls", logits)):
            golden: dict[str, Any] = {"f32": expected[key], "grad_norm": [expected[gradient]]}
            check(golden, value, dtype, [leaf])
