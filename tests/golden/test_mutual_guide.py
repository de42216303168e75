"""Mutual Guidance's label assignment against three versions of the released code, exactly."""

import numpy as np
import torch

from tests.golden.cases import Case, each_case
from workers.detectors.mutual_guidance import Form, Match, centerness, mutual_match, plain_match
from workers.geometry.padded import objects

FORMS: dict[str, Form] = {"oct21": "dynamic", "jun21_accv": "accv", "head": "capped"}


@each_case("mutual_guide")
def test_assignment(case: Case, dtype: torch.dtype) -> None:
    gt, priors, labels = case.tensor("truths", dtype), case.tensor("priors", dtype), case.tensor("labels", dtype) - 1
    deltas, logits = case.tensor("regress", dtype), case.tensor("classif", dtype)
    truth = objects([gt], [labels])
    for name, counts in case.outputs.items():
        form, anchors, nearest = FORMS[name], case.params["multi_anchor"], case.params["topk"]
        match = Match(*(each[0] for each in vars(mutual_match(truth, priors, deltas[None], logits[None], form, anchors, nearest)).values()))
        expected = {key: case.arrays_out[f"{name}.{key}"] for key in ("overlap_t", "conf_t", "pred_t", "loc_t")}
        first = 0 if name == "head" else 1  # number of the first class in the stored labels
        np.testing.assert_allclose(match.class_score.numpy(), expected["overlap_t"], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(match.class_score.numpy() >= 3, expected["overlap_t"] >= 3)
        np.testing.assert_array_equal(match.class_score.numpy() == 2, expected["overlap_t"] == 2)
        np.testing.assert_array_equal(labels[match.class_gt].numpy() + first, expected["conf_t"])
        np.testing.assert_allclose(match.box_score.numpy(), expected["pred_t"], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(match.box_score.numpy() >= 3, expected["pred_t"] >= 3)
        np.testing.assert_allclose(gt[match.box_gt].numpy(), expected["loc_t"], rtol=1e-6)
        assert int((match.class_score >= 3).sum()) == counts["n_cls_pos"]
        assert int((match.class_score == 2).sum()) == counts["n_cls_ign"]
        assert int((match.box_score >= 3).sum()) == counts["n_loc_pos"]
        np.testing.assert_allclose(match.class_score.sum(), counts["cls_score_sum"], rtol=1e-4)
        np.testing.assert_allclose(match.box_score.sum(), counts["loc_score_sum"], rtol=1e-4)


@each_case("mutual_guide")
def test_plain_matching(case: Case, dtype: torch.dtype) -> None:
    gt, priors, labels = case.tensor("truths", dtype), case.tensor("priors", dtype), case.tensor("labels", dtype)
    score, owner = (each[0] for each in plain_match(objects([gt], [labels]), priors, case.params["multi_anchor"]))
    np.testing.assert_allclose(score.numpy(), case.arrays_out["plain_match.overlap_t"], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(labels[owner].numpy(), case.arrays_out["plain_match.conf_t"])
    if "centerness" in case.arrays_out:
        np.testing.assert_allclose(centerness(gt, priors).numpy(), case.arrays_out["centerness"], rtol=1e-4, atol=1e-6)
