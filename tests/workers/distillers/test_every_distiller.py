"""What holds for every method, on real narrow mmdet detectors: gradients, images without objects, bfloat16, the exported student."""

from typing import Any

import pytest
import torch

from studies.catalog import DETECTORS
from studies.methods import methods
from studies.spec import MethodUse, Network
from tests.workers.synthetic import batch
from workers.detectors import build, describe
from workers.distillation.student import DistilledDetector

PAIRS = [
    (detector, name)
    for detector in ("gfl", "retinanet")
    for name, method in methods().items()
    if method.misfit(DETECTORS[detector], DETECTORS[detector], method.options()) is None
]
every_pair = pytest.mark.parametrize(("detector", "method"), PAIRS)


def distilled(detector: str, method: str) -> DistilledDetector:
    student, teacher = (
        Network(detector=detector, backbone=backbone, width=width) for backbone, width in (("resnet18", 8), ("resnet34", 12))
    )
    torch.manual_seed(0)
    models = build(student, 10), build(teacher, 10)
    for model in models:  # fresh heads predict next to nothing, and losses of nothing prove nothing
        for parameter in model.bbox_head.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    model = DistilledDetector(*models, [MethodUse(id=method)], (describe(student, models[0]), describe(teacher, models[1])))
    model.iteration = 1000  # past every ramp
    return model.train()


def losses(model: DistilledDetector, data: dict[str, Any]) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)  # random masks
    found = model(**data, mode="loss")
    return {name: value if isinstance(value, torch.Tensor) else sum(value) for name, value in found.items()}


def of_method(model: DistilledDetector, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    own = model.student(**batch(), mode="loss").keys()
    return {name: value for name, value in found.items() if name not in own}


@every_pair
def test_backward_reaches_the_student_and_its_adapters_but_no_teacher(detector: str, method: str) -> None:
    model = distilled(detector, method)
    of_teacher = [parameter.clone() for parameter in model.teacher.parameters()]
    sum(losses(model, batch()).values()).backward()
    unreached = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert unreached == []
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert all(torch.equal(a, b) for a, b in zip(of_teacher, model.teacher.parameters(), strict=True))


@every_pair
def test_the_method_alone_teaches_the_students_backbone(detector: str, method: str) -> None:
    model = distilled(detector, method)
    taught = of_method(model, losses(model, batch()))
    assert taught
    model.zero_grad()
    sum(taught.values()).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.student.backbone.parameters())


@every_pair
def test_images_without_objects_give_finite_losses_and_gradients(detector: str, method: str) -> None:
    model = distilled(detector, method)
    found = losses(model, batch(objects=False))
    assert all(torch.isfinite(value) for value in found.values())
    sum(found.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@every_pair
def test_bfloat16_autocast_gives_the_float32_loss_within_two_percent(detector: str, method: str) -> None:
    """With both networks under autocast too; the method itself always computes in float32. Gradients are rounded once more than outputs."""
    model = distilled(detector, method)
    exact = of_method(model, losses(model, batch()))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = of_method(model, losses(model, batch()))
    assert sum(rounded.values()).item() == pytest.approx(sum(exact.values()).item(), rel=0.05 if method == "gkd" else 0.02)


@every_pair
def test_the_exported_student_is_the_plain_detector(detector: str, method: str) -> None:
    plain = build(Network(detector=detector, backbone="resnet18", width=8), 10).state_dict()
    student = distilled(detector, method).student.state_dict()
    assert {name: value.shape for name, value in student.items()} == {name: value.shape for name, value in plain.items()}
