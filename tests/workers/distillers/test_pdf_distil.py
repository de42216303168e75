"""PDF-Distil: strategies, variants, what backward reaches, and predictions that agree."""

import pytest
import torch

from studies.spec import MethodUse
from tests.workers.synthetic import CLASSES, Scene, scene
from workers.distillation.student import build_distiller
from workers.distillers.pdf_distil import PDFDistil, hard_weights

STRATEGIES = ["all", "kl", "l1", "l2", "l2_root", "most_similar_25", "most_similar_50", "most_different_50", "most_different_25"]


def pdf(scene: Scene, **options: object) -> PDFDistil:
    torch.manual_seed(1)
    made = build_distiller(MethodUse(id="pdf_distil", options=options), scene.student, scene.teacher)
    assert isinstance(made, PDFDistil)
    return made


@pytest.mark.parametrize("anchors", [1, 9])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_every_strategy_teaches_the_neck_alone(variant: str, strategy: str, anchors: int) -> None:
    s = scene(anchors=anchors)
    method = pdf(s, variant=variant, strategy=strategy)
    losses = method(s.step)
    assert losses["loss_pdf"].item() > 0
    assert s.reached(losses) == {"neck"}


@pytest.mark.parametrize(("variant", "same_as"), [("code", "l2_root"), ("paper", "l2")])
def test_without_a_strategy_the_variants_own_is_used(variant: str, same_as: str) -> None:
    s = scene()
    assert torch.equal(pdf(s, variant=variant)(s.step)["loss_pdf"], pdf(s, variant=variant, strategy=same_as)(s.step)["loss_pdf"])


def test_the_disagreement_of_a_cell_sums_its_anchors() -> None:
    s = scene(anchors=3)
    teacher, student = s.step.teacher.logits[1], s.step.student.logits[1]
    value = pdf(s, strategy="l1").disagreement(teacher, student)
    difference = (teacher.sigmoid() - student.sigmoid()).abs()
    assert difference.shape[1] == 3 * CLASSES
    torch.testing.assert_close(value, difference.sum(1).flatten(1).detach())


@pytest.mark.parametrize("variant", ["code", "paper"])
@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if s != "all"])
def test_equal_predictions_give_a_finite_loss(variant: str, strategy: str) -> None:
    s = scene()
    with torch.no_grad():
        for ours, theirs in zip(s.step.student.logits, s.step.teacher.logits, strict=True):
            ours.copy_(theirs)
    losses = pdf(s, variant=variant, strategy=strategy)(s.step)
    assert torch.isfinite(losses["loss_pdf"])
    if variant == "code":
        assert losses["loss_pdf"].item() == 0


def test_the_loss_of_the_code_is_a_weighted_mean_of_squares() -> None:
    s = scene()
    method = pdf(s, loss_weight=1)
    with torch.no_grad():
        for theirs, ours, adapter in zip(s.step.teacher.neck, s.step.student.neck, method.adapters, strict=True):
            theirs.copy_(adapter(ours) + 3)
    assert method(s.step)["loss_pdf"].item() == pytest.approx(9, rel=1e-5)


def test_hard_shares_keep_what_their_name_says() -> None:
    different = torch.arange(1.0, 17).view(2, 8)
    assert hard_weights(different, "most_different_50").flatten().nonzero().flatten().tolist() == list(range(8, 16))
    assert hard_weights(different, "most_different_25").flatten().nonzero().flatten().tolist() == list(range(12, 16))
    assert hard_weights(different, "most_similar_50").flatten().nonzero().flatten().tolist() == list(range(7))
    assert hard_weights(different, "most_similar_25").flatten().nonzero().flatten().tolist() == list(range(3))
    assert hard_weights(different, "most_different_25").sum().item() == pytest.approx(1)


@pytest.mark.parametrize(("adapter", "kernel"), [("1x1", (1, 1)), ("3x3", (3, 3))])
def test_adapters_are_one_per_level_and_train(adapter: str, kernel: tuple[int, int]) -> None:
    s = scene()
    method = pdf(s, adapter=adapter)
    method(s.step)["loss_pdf"].backward()
    assert [a.kernel_size for a in method.adapters] == [kernel] * 3
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


def test_images_without_objects_are_distilled_like_others() -> None:
    assert torch.equal(pdf(scene())(scene().step)["loss_pdf"], pdf(scene(objects=False))(scene(objects=False).step)["loss_pdf"])


def test_a_weight_of_zero_leaves_the_loss_out() -> None:
    s = scene()
    assert pdf(s, loss_weight=0)(s.step) == {}
