"""A step of every family with every method, and of the papers' pairs: a few cells always, all of them with `pytest -m slow`."""

import pytest
import torch

from benchmarks.catalogue_steps import (
    Family,
    PaperPair,
    Wrong,
    attempt,
    families,
    paper_pairs,
    require,
    require_own,
    run_matrix,
    run_paper_pair,
)
from studies.catalog import DETECTORS, FORMS, misfit_of
from studies.spec import MethodUse

ROWS = {pair.title: pair for pair in families()}
PAPER = paper_pairs()


@pytest.mark.parametrize(
    ("row", "method"),
    [
        ("Mask R-CNN ResNet-18 <- Mask R-CNN ResNet-34", "chen2017"),
        ("FCOS ResNet-18 (pdf_fpn) <- FCOS ResNet-34 (pdf_pafpn)", "ofd"),
        ("YOLOv3 DarkNet-53 <- YOLOv3 DarkNet-53 (doubled)", "fbkd"),
        ("SSD VGG-16 <- SSD VGG-16 (doubled)", "pkd"),
        ("RepPoints ResNet-18 <- RepPoints ResNet-34", None),
    ],
)
def test_a_step_and_an_evaluation(row: str, method: str | None) -> None:
    family = Family(ROWS[row])
    assert attempt(lambda: family.cell(method))[1] is None


def test_what_is_wrong_is_told() -> None:
    use = MethodUse(id="fitnet")
    with pytest.raises(Wrong, match="fitnet gives no loss"):
        require_own({"loss_cls": torch.tensor(1.0)}, {"loss_cls"}, use)
    with pytest.raises(Wrong, match="fitnet gives zero"):
        require_own({"loss_cls": torch.tensor(1.0), "loss_fitnet": torch.tensor(0.0)}, {"loss_cls"}, use)
    assert (attempt(lambda: require(False, "not so"))[1] or "").startswith("Wrong: not so (catalogue_steps.py:")
    assert attempt(lambda: require(True, "so"))[1] is None


def test_every_family_and_form_is_in_the_matrix() -> None:
    networks = [network for pair in ROWS.values() for network in (pair.student, pair.teacher)]
    assert {network.detector for network in networks} == set(DETECTORS)
    assert {(network.detector, network.form) for network in networks if network.form} == {
        (d, f.id) for f in FORMS.values() for d in f.detectors
    }


def test_the_papers_pairs_are_distinct_and_fit() -> None:
    assert len({(row.dataset, row.use.model_dump_json(), row.pair) for row in PAPER}) == len(PAPER) > 50
    for row in PAPER:
        assert row.pair.misfit(row.use) is None
        for network in (row.pair.student, row.pair.teacher):
            assert misfit_of(network.detector, network.backbone, network.form) is None


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_a_family_with_all_methods(row: str) -> None:
    assert run_matrix([ROWS[row]]).failures == []


@pytest.mark.slow
@pytest.mark.parametrize("row", PAPER, ids=lambda row: f"{row.tables}: {row.use.id}: {row.pair.title}")
def test_a_step_of_a_papers_pair(row: PaperPair) -> None:
    assert attempt(lambda: run_paper_pair(row))[1] is None
