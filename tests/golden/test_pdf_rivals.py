"""PDF-Distil's versions of FGFI, DeFeat and PAD against its released code."""

import torch
from torch import Tensor

from tests.golden.cases import Case, check, each_case
from workers.distillation.shares import centred_priors, overlapping_priors
from workers.distillers import defeat, fgfi
from workers.distillers.pad import pdf_terms

DECOUPLE = (2.0, 8.0)  # weights of foreground and background


def boxes_of(case: Case, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """Priors and ground-truth boxes as xyxy in units of the image's side."""
    centred = case.tensor("priors", dtype)
    priors = torch.cat([centred[:, :2] - centred[:, 2:] / 2, centred[:, :2] + centred[:, 2:] / 2], dim=1)
    return priors, [case.tensor(f"targets_{image}", dtype)[:, :4] for image in range(case.params["N"])]


def shares(case: Case, dtype: torch.dtype, kind: str) -> Tensor:
    """Share of every cell's priors that count as foreground, (N, L)."""
    priors, images = boxes_of(case, dtype)
    points = not case.params["multi_anchor"]
    marks = [overlapping_priors(priors, b, points) if kind == "overlapping" else centred_priors(priors, b) for b in images]
    return torch.stack([m.view(-1, case.params["M"]).mean(1) for m in marks])


def is_null(expected: dict[str, object]) -> bool:
    return expected["f32"] is None


@each_case("pdf")
def test_fine_grained(case: Case, dtype: torch.dtype) -> None:
    student, teacher = case.tensor("fea_s", dtype, grad=True), case.tensor("fea_t", dtype)
    loss = case.params["factor"] * fgfi.pdf_loss((teacher - student).square().mean(2), shares(case, dtype, "overlapping"))
    for name in ("oct21/fg-only", "jun21/fg-only"):
        if name in case.outputs:
            check(case.outputs[name], loss, dtype, [student])
            assert not is_null(case.outputs[name]) or loss.item() == 0


@each_case("pdf")
def test_decoupled(case: Case, dtype: torch.dtype) -> None:
    student, teacher = case.tensor("fea_s", dtype, grad=True), case.tensor("fea_t", dtype)
    square = (teacher - student).square().mean(2)
    for name, kind in (("oct21/decouple", "centred"), ("jun21/decouple", "overlapping")):
        if name in case.outputs:
            terms = defeat.pdf_loss(square, shares(case, dtype, kind))
            check(case.outputs[name], DECOUPLE[0] * terms[0] + DECOUPLE[1] * terms[1], dtype, [student])


@each_case("pdf")
def test_prime_aware(case: Case, dtype: torch.dtype) -> None:
    student, teacher = case.tensor("fea_s", dtype, grad=True), case.tensor("fea_t", dtype)
    loss = case.params["factor"] * pdf_terms(teacher, student, case.tensor("var", dtype)).mean()
    check(case.outputs["oct21/gauss"], loss, dtype, [student])
