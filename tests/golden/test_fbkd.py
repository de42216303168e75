"""FBKD against the released code (as mmrazor arranges it) and the paper's equations: every term, the masks and the relations."""

import numpy as np
import pytest
import torch

from studies.catalog import DETECTORS
from studies.methods.fbkd import METHOD, FBKDOptions
from tests.golden.cases import Case, check, each_case
from workers.distillation.non_local import NonLocal
from workers.distillers.fbkd import Level, attention_masks, masked_norm


def load(block: NonLocal, case: Case, net: str, dtype: torch.dtype) -> NonLocal:
    """Fills a block with the case's weights; theta, phi and g are one convolution in ours."""

    def joined(kind: str) -> torch.Tensor:
        return torch.cat([case.tensor(f"{net}.{part}.{kind}", dtype) for part in ("theta", "phi", "g")])

    weights = {"project.weight": joined("w"), "project.bias": joined("b"), "out.weight": case.tensor(f"{net}.out.w", dtype)}
    block.load_state_dict(weights | {f"norm.{n}": case.tensor(f"{net}.out.bn.{k}", dtype) for n, k in (("weight", "w"), ("bias", "b"))})
    return block


def settled(options: FBKDOptions, stages: str) -> FBKDOptions:
    detector = DETECTORS[{"one": "retinanet", "two": "faster_rcnn"}[stages]]
    found = METHOD.settled(options, detector, detector)
    assert isinstance(found, FBKDOptions)
    return found


def released_level(case: Case, stages: str, dtype: torch.dtype, pool: int) -> Level:
    p = case.params
    options = settled(FBKDOptions(temperature=p["T"], nl_mode=p["mode"]), stages)
    level = Level(p["C"], p["C"], p["C"] // p["reduction"], pool, options).to(dtype)
    for name, golden in {"am": "feat", "at_spatial": "sp", "at_channel": "ch", "nld": "nl"}.items():
        level.adapters[name].load_state_dict(
            {"weight": case.tensor(f"adapt_{golden}.w", dtype), "bias": case.tensor(f"adapt_{golden}.b", dtype)}
        )
    load(level.relation, case, "nl_s", dtype)
    load(level.teacher_relation, case, "nl_t", dtype)
    return level


@pytest.mark.parametrize("stages", ["two", "one"])
@each_case("fbkd")
def test_released_terms(case: Case, dtype: torch.dtype, stages: str) -> None:
    student, teacher = case.tensor("student", dtype, grad=True), case.tensor("teacher", dtype)
    level = released_level(case, stages, dtype, case.params["pool"])
    terms, weights = level(student, teacher), level.options
    masked = "code_am_spatial_only" if stages == "two" else "code_am_spatial_and_channel"
    for golden, name in {masked: "am", "code_at_channel": "at_channel", "code_at_spatial": "at_spatial", "code_nld": "nld"}.items():
        check(case.outputs[golden], terms[name], dtype, [student])
    transfer = weights.at_weight * (terms["at_spatial"] + terms["at_channel"])
    total = transfer + weights.am_weight * terms["am"] + weights.nld_weight * terms["nld"]
    check(case.outputs[f"code_total_{stages}_stage_level"], total, dtype, [student])


@each_case("fbkd")
def test_released_masks_and_relations(case: Case, dtype: torch.dtype) -> None:
    student, teacher = case.tensor("student", dtype), case.tensor("teacher", dtype)
    spatial, channel = attention_masks(student, teacher, case.params["T"], "code")
    level = released_level(case, "two", dtype, case.params["pool"])
    found = {
        "mask_spatial": spatial.reshape(len(student), 1, *student.shape[2:]),
        "mask_channel": channel[:, :, None, None],
        "relation_s": level.adapt("nld", level.relation(student)),
        "relation_t": level.teacher_relation(teacher),
    }
    for name, value in found.items():
        np.testing.assert_allclose(value.detach().numpy(), case.arrays_out[name], rtol=1e-4, atol=1e-5)


@each_case("fbkd")
def test_pooling_twice_is_pooling_by_the_product(case: Case, dtype: torch.dtype) -> None:
    """mmrazor pools by 2 and by k; one window of 2k says the same, so its value checks the block at another pooling."""
    student, teacher = case.tensor("student", dtype, grad=True), case.tensor("teacher", dtype)
    level = released_level(case, "two", dtype, 2 * case.params["pool"])
    check(case.outputs["mmrazor_double_pool_nld"], level(student, teacher)["nld"], dtype, [student])


@each_case("fbkd")
def test_paper_terms(case: Case, dtype: torch.dtype) -> None:
    student, teacher, T = case.tensor("student", dtype, grad=True), case.tensor("teacher", dtype), case.params["T"]
    options = settled(FBKDOptions(variant="paper", temperature=T, nld_weight=0), "one")
    terms = Level(case.params["C"], case.params["C"], 1, 1, options)(student, teacher)
    for golden, name in {"paper_at_spatial": "at_spatial", "paper_at_channel": "at_channel", "paper_am": "am"}.items():
        check(case.outputs[golden], terms[name], dtype, [student])
    spatial, channel = attention_masks(student, teacher, T, "paper")
    each = [masked_norm(student[n, None], teacher[n, None], spatial[n, None], channel[n, None]) for n in range(len(student))]
    check(case.outputs["paper_am_mean_over_images"], torch.stack(each).mean(), dtype, [student])
    np.testing.assert_allclose(spatial.flatten().numpy(), case.arrays_out["paper_mask_spatial"].flatten(), rtol=1e-4)
    np.testing.assert_allclose(channel.flatten().numpy(), case.arrays_out["paper_mask_channel"].flatten(), rtol=1e-4)
