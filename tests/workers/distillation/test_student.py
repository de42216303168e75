"""What a step offers a method of the student's own training: its samples, its losses, and their gradients where a method asks."""

from typing import Any

import pytest
import torch

from studies.spec import MethodUse, Network
from tests.workers.synthetic import ONE, batch, make_step
from workers.detectors import build, describe
from workers.detectors.memory import memory_of
from workers.distillation.captures import Backbone
from workers.distillation.step import Step
from workers.distillation.student import DistilledDetector, losses_on

STUDENT, TEACHER = Network(detector="gfl", backbone="resnet18", width=8), Network(detector="gfl", backbone="resnet34", width=8)


def stepped(use: MethodUse) -> tuple[DistilledDetector, dict[str, Any], Step, list[int]]:
    """A model that has run a step, its losses, the step its distiller saw, and how often gradients were computed."""
    torch.manual_seed(0)
    student, teacher = build(STUDENT, 10), build(TEACHER, 10)
    model = DistilledDetector(student, teacher, [use], (describe(STUDENT, student), describe(TEACHER, teacher))).train()
    seen: list[Step] = []
    computed: list[int] = []
    model.distillers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    compute = model._gradients
    model._gradients = lambda *of: (computed.append(1), compute(*of))[1]  # type: ignore[method-assign]
    losses = model(**batch(), mode="loss")
    return model, losses, seen[0], computed


def test_own_losses_are_those_that_train() -> None:
    _, losses, step, _ = stepped(MethodUse(id="ld", options={"individual_ld": True}))
    own = {name for name in losses if not name.startswith("loss_ld")}
    assert step.own_losses.keys() == own == {"loss_cls", "loss_bbox", "loss_dfl"}
    assert sum(value.item() for value in step.own_losses["loss_bbox"]) == 0  # which this method leaves to the teacher
    assert [sample.gt_instances.labels.tolist() for sample in step.data_samples] == [[0, 1, 2]] * 2


def test_gradients_are_those_of_the_own_losses_and_computed_once_when_asked() -> None:
    model, losses, step, computed = stepped(MethodUse(id="fitnet"))
    assert computed == []
    found = step.gradients()
    assert step.gradients() is found
    assert computed == [1]
    assert not any(level.requires_grad for level in found)
    total = sum(value for losses_of in step.own_losses.values() for value in losses_of)
    expected = torch.autograd.grad(total, step.student.neck, retain_graph=True)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    model.parse_losses(losses)[0].backward()  # the step goes on as if nobody had asked
    assert model.student.backbone.conv1.weight.grad.abs().sum() > 0


def test_gradients_of_the_teacher_are_those_of_its_losses_on_the_same_objects() -> None:
    model, losses, step, _ = stepped(MethodUse(id="gkd"))
    neck = tuple(level.clone().requires_grad_() for level in step.teacher.neck)
    own = model.teacher.bbox_head.loss(neck, step.data_samples)
    expected = torch.autograd.grad(sum(value for losses_of in own.values() for value in losses_of), neck)
    for ours, theirs in zip(step.teacher_gradients(), expected, strict=True):
        assert theirs.abs().sum() > 0
        torch.testing.assert_close(ours, theirs)
    assert losses["loss_gkd"] > 0
    assert "extract_feat" not in vars(model.teacher)  # the teacher sees its images again
    model.parse_losses(losses)[0].backward()
    assert all(parameter.grad is None for parameter in model.teacher.parameters())


@pytest.mark.parametrize(("detector", "form"), [("fcos", "centre_sampling"), ("reppoints", None)])
def test_a_teachers_losses_are_those_of_a_training_and_it_predicts_as_before(detector: str, form: str | None) -> None:
    """Their heads give other outputs while they train."""
    network = Network(detector=detector, backbone="resnet18", width=8, form=form)
    torch.manual_seed(0)
    teacher = build(network, 10).eval()
    data = batch()
    levels = teacher.extract_feat(data["inputs"])
    before = teacher.bbox_head(levels)
    found = losses_on(teacher, levels, **data)
    assert not any(module.training for module in teacher.modules())
    assert all(
        torch.equal(a, b) for ours, theirs in zip(teacher.bbox_head(levels), before, strict=True) for a, b in zip(ours, theirs, strict=True)
    )
    teacher.bbox_head.train()
    expected = teacher.bbox_head.loss(levels, data["data_samples"])
    assert {name: sum_of(value) for name, value in found.items()} == {name: sum_of(value) for name, value in expected.items()}


def sum_of(loss: Any) -> float:
    return float(torch.stack(list(loss)).sum().detach() if isinstance(loss, list | tuple) else loss.detach())


def test_a_teacher_learns_nothing_of_its_losses() -> None:
    """Dynamic R-CNN's thresholds follow its losses; those of a teacher stay."""
    networks = [Network(detector="dynamic_rcnn", backbone=backbone, width=8) for backbone in ("resnet18", "resnet34")]
    torch.manual_seed(0)
    student, teacher = (build(network, 10) for network in networks)
    infos = describe(networks[0], student), describe(networks[1], teacher)
    model = DistilledDetector(student, teacher, [MethodUse(id="gkd")], infos).train()
    before = memory_of(teacher)
    losses = model(**batch(), mode="loss")
    assert losses["loss_gkd"] > 0
    assert memory_of(teacher) == before != memory_of(student)


def test_gradients_on_a_device_are_those_of_its_own_mean() -> None:
    _, _, step, _ = stepped(MethodUse(id="fitnet"))
    whole, parts = step.gradients(), step.parts([1, 1])
    for image, part in enumerate(parts):
        assert part.data_samples == step.data_samples[image : image + 1]
        for level, ours in enumerate(part.gradients()):
            torch.testing.assert_close(ours, 2 * whole[level][image : image + 1])


def test_what_is_not_there_is_said() -> None:
    step = make_step(ONE)
    for gradients in (step.gradients, step.teacher_gradients):
        with pytest.raises(ValueError, match="a step outside of a training has no losses"):
            gradients()
    del step.teacher.captured[Backbone]
    with pytest.raises(ValueError, match="Backbone was not captured: name it in the distiller's captures"):
        step.teacher.of(Backbone)
