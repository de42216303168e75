"""FRS against the released code: both terms, their gradients and the richness mask."""

import numpy as np
import torch

from tests.golden.cases import Case, check, each_case
from workers.distillers.frs import feature_loss, prediction_loss, richness


@each_case("frs")
def test_terms(case: Case, dtype: torch.dtype) -> None:
    p, levels = case.params, range(len(case.params["sizes"]))
    features = [case.tensor(f"stu_feat_{level}", dtype, grad=True) for level in levels]
    logits = [case.tensor(f"stu_cls_{level}", dtype, grad=True) for level in levels]
    theirs = [case.tensor(f"tea_cls_{level}", dtype) for level in levels]
    rich = [richness(z) for z in theirs]
    feature = sum(feature_loss(features[i], case.tensor(f"tea_feat_{i}", dtype), rich[i]) for i in levels)
    prediction = sum(prediction_loss(logits[i], theirs[i], rich[i]) for i in levels)
    ramp = min(1.0, p["iter"] / p["warm"])
    check(case.outputs["feat_loss"], ramp * p["alpha"] * feature, dtype, [*features, *logits])
    check(case.outputs["cls_loss"], ramp * p["beta"] * prediction, dtype, [*features, *logits])
    for i in levels:
        np.testing.assert_allclose(rich[i][:, 0].numpy(), case.arrays_out[f"mask_{i}"], rtol=1e-6)
