"""Losses that depend on the images of a device: a batch of 16 gives what 8 devices with 2 images each would average."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from studies.catalog import DETECTORS
from studies.methods import Options, methods
from studies.methods.base import device_shares
from studies.spec import MethodUse, Network
from tests.studies.test_settled import choices
from tests.workers.synthetic import ONE, TWO, Kind, batch, make_step
from workers.detectors import build, describe
from workers.distillation.base import Distiller
from workers.distillation.captures import Assignment, RoIs
from workers.distillation.step import Outputs, RoIOutputs, Step, Targets
from workers.distillation.student import DistilledDetector, over_devices

IMAGES, EACH = 16, 2
TERMS: dict[str, dict[str, Any]] = {  # terms that are off by default, at once
    "ld": {"vlr_ld": True, "main_kd": True, "vlr_kd": True, "imitation": "main"},
    "defeat": {"backbone_foreground": 1.0, "backbone_background": 1.0},
    "fgfi": {"start_iteration": 0},
    "mgd": {"masked": 0.0},  # else its masks are drawn
}


def cases() -> Iterator[Any]:
    """Every method with each of its switches, on detectors that between them take them all."""
    for name, method in methods().items():
        found = [options.model_copy(update={"masked": 0.0} if name == "mgd" else {}) for options in choices(method)]
        found.append(method.options.model_validate(TERMS.get(name, {})))
        for detector in ("gfl", "retinanet", "fcos", "atss", "faster_rcnn"):
            for options in found if name != "crosskd" or detector == "gfl" else found[:1]:
                if method.misfit(DETECTORS[detector], DETECTORS[detector], options) is None:
                    yield detector, name, options


CASES = list(cases())
first_of_each = {(name, options): (detector, name, options) for detector, name, options in reversed(CASES) if name != "crosskd"}
SOME = [*first_of_each.values(), *(case for case in CASES if case[1] == "crosskd")]


class Recorded(Exception):
    """Ends a forward pass where its steps are known."""


def network(detector: str, backbone: str, width: int) -> Network:
    return Network(detector=detector, backbone=backbone, width=width)


def steps_of(detector: str, use: MethodUse, mixed: bool = False) -> tuple[DistilledDetector, list[Step]]:
    """A distilled detector, and what its distiller is given of 16 images, every third without objects: one step, or two of mixed ones."""
    spec = network(detector, "resnet18", 8), network(detector, "resnet34", 8)
    torch.manual_seed(0)
    models = [build(each, 10) for each in spec]
    for model in models:  # fresh heads predict next to nothing
        for parameter in model.parameters():
            parameter.data += 0.03 * torch.randn_like(parameter)
    model = DistilledDetector(*models, [use], (describe(spec[0], models[0]), describe(spec[1], models[1]))).train()
    model.iteration = 1000  # past every ramp
    found: list[Step] = []
    given = model._distilled

    def recorded(step: Step) -> dict[str, Tensor]:
        found.append(step)
        return given(step)

    model._distilled = recorded  # type: ignore[method-assign]
    model(**images(mixed), mode="loss")
    return model, found


def images(mixed: bool) -> dict[str, Any]:
    """16 images; objects of an image move with its number."""
    data, empty = batch(images=IMAGES, side=64), batch(objects=False, images=IMAGES, side=64)
    for number, (sample, other) in enumerate(zip(data["data_samples"], empty["data_samples"], strict=True)):
        if number % 3 == 1:
            sample.gt_instances = other.gt_instances
        else:
            sample.gt_instances.bboxes += number / 4
    if mixed:
        for number, sample in enumerate(data["data_samples"]):
            other = (5 * number + 3) % IMAGES
            sample.set_metainfo({"mixed": (0.3, other, data["data_samples"][other].gt_instances)})
    return data


def leaves(outputs: Outputs) -> Outputs:
    """The student's outputs as tensors that gradients end at."""

    def leaf(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach().clone().requires_grad_()
        if isinstance(value, RoIOutputs):
            return leaf_rois(value)
        if isinstance(value, Targets):
            return value
        return {k: leaf(v) for k, v in value.items()} if isinstance(value, dict) else None if value is None else tuple(map(leaf, value))

    return Outputs(**{each.name: leaf(getattr(outputs, each.name)) for each in fields(outputs)})


def in_doubles(model: DistilledDetector, steps: list[Step]) -> list[Step]:
    """The steps in float64, and their model: standardised over two values, a map of one cell has a gradient of zero, which in float32 is
    all rounding."""
    model.double().teacher.double()
    return [replace(step, student=doubles(step.student), teacher=doubles(step.teacher)) for step in steps]


def doubles(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, Outputs | Targets):
        return type(value)(**{each.name: doubles(getattr(value, each.name)) for each in fields(value)})
    if isinstance(value, dict):
        return {name: doubles(each) for name, each in value.items()}
    return tuple(map(doubles, value)) if isinstance(value, tuple) else value


def tensors(value: Any) -> list[Tensor]:
    """All tensors of outputs, in order."""
    if isinstance(value, Tensor):
        return [value]
    if value is None:
        return []
    if isinstance(value, RoIOutputs):
        return [each for each in (value.logits, value.deltas, value.features) if each is not None]
    if isinstance(value, Targets):
        return []
    if isinstance(value, Outputs):
        return [tensor for each in fields(value) for tensor in tensors(getattr(value, each.name))]
    return [tensor for each in (value.values() if isinstance(value, dict) else value) for tensor in tensors(each)]


@dataclass
class OnDevice(Step):
    """The step of one of several devices, which take means of their totals together."""

    together: list[Step] = field(default_factory=list)

    def mean_over_devices(self, total: Callable[[Step], Tensor]) -> Tensor:
        return torch.stack([total(step) for step in self.together]).mean()


def chosen(value: Any, images: slice) -> Any:
    """Some images of outputs or targets, copied; tensors have the images in front."""
    if isinstance(value, Tensor):
        return value.detach()[images].clone()
    if isinstance(value, RoIOutputs):
        return chosen_rois(value, images)
    if isinstance(value, Outputs | Targets):
        return type(value)(**{each.name: chosen(getattr(value, each.name), images) for each in fields(value)})
    if isinstance(value, dict):
        return {name: chosen(each, images) for name, each in value.items()}
    return None if value is None else tuple(chosen(each, images) for each in value)


def chosen_rois(rois: RoIOutputs, images: slice) -> RoIOutputs:
    """The RoIs of some images, copied and numbered from 0."""
    own = (rois.rois[:, 0] >= images.start) & (rois.rois[:, 0] < images.stop)
    cut = {each.name: None if (value := getattr(rois, each.name)) is None else value.detach()[own] for each in fields(rois)}
    return RoIOutputs(**cut | {"rois": cut["rois"] - torch.tensor([images.start, 0.0, 0, 0, 0])})


def on_devices(step: Step, each: int) -> list[Step]:
    """What devices of `each` images would have made of a step's images; nothing is shared with the step."""
    made: list[Step] = []
    devices = step.images // each
    for first in range(0, step.images, each):
        images = slice(first, first + each)
        own: dict[str, Any] = {
            "student": leaves(chosen(step.student, images)),
            "teacher": chosen(step.teacher, images),
            "gt_boxes": step.gt_boxes[images],
            "gt_labels": step.gt_labels[images],
            "gradients": partial(own_mean, step.gradients, images, devices),
            "teacher_gradients": partial(own_mean, step.teacher_gradients, images, devices),
        }
        made.append(OnDevice(**{part.name: getattr(step, part.name) for part in fields(step) if part.init} | own, together=made))
    return made


def own_mean(gradients: Callable[[], tuple[Tensor, ...]], images: slice, devices: int) -> tuple[Tensor, ...]:
    """The gradients of a device's own losses, whose mean over the devices the batch's are."""
    return tuple(devices * level[images] for level in gradients())


def leaf_rois(rois: RoIOutputs) -> RoIOutputs:
    made = {
        name: value.detach().clone().requires_grad_()
        for name in ("logits", "deltas", "features")
        if (value := getattr(rois, name)) is not None
    }
    return replace(rois, **made)


def gradients(losses: dict[str, Tensor], distiller: Distiller, steps: list[Step]) -> list[Tensor]:
    """Of the summed losses: for the distiller's parameters, then for what the student gave, image by image."""
    outputs = [tensors(step.student) for step in steps]
    trained = [parameter for parameter in distiller.parameters() if parameter.requires_grad]
    wanted = [*trained, *(tensor for each in outputs for tensor in each)]
    found = torch.autograd.grad(torch.stack(list(losses.values())).sum(), wanted, allow_unused=True)
    zeros = [torch.zeros_like(tensor) if grad is None else grad for tensor, grad in zip(wanted, found, strict=True)]
    own = len(trained)
    columns = [zeros[own + i * len(outputs[0]) : own + (i + 1) * len(outputs[0])] for i in range(len(steps))]
    return [*zeros[:own], *(torch.cat(parts) for parts in zip(*columns, strict=True))]


def assert_close(found: Tensor, expected: Tensor, what: str) -> None:
    largest = expected.abs().max().item() if expected.numel() else 0.0
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5 * largest), (what, (found - expected).abs().max().item(), largest)


def compare(distiller: Distiller, step: Step, per_device: int | None) -> None:
    """The losses and gradients of a step, in parts of `per_device` images, are the means of those of devices with 2 images."""
    whole = replace(step, student=leaves(step.student))
    devices = on_devices(step, EACH)
    found = over_devices(distiller, whole, per_device)
    each = [distiller(device) for device in devices]
    expected = {name: torch.stack([losses[name] for losses in each]).mean() for name in each[0]}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, name)
    if expected:
        pairs = zip(gradients(found, distiller, [whole]), gradients(expected, distiller, devices), strict=True)
        for number, (ours, theirs) in enumerate(pairs):
            assert_close(ours, theirs, f"gradient {number}")


@pytest.mark.parametrize(("detector", "name", "options"), SOME)
def test_sixteen_images_give_what_eight_devices_of_two_average(detector: str, name: str, options: Options) -> None:
    """At 2 images a device where the loss depends on them; where it is said not to, all at once is the same."""
    depends = methods()[name].per_device_images_of(options) is not None
    use = MethodUse(id=name, options=options.model_dump(exclude_unset=True), per_device_images=EACH if depends else None)
    model, (step,) = steps_of(detector, use)
    assert step.images == IMAGES
    if name == "crosskd":
        (step,) = in_doubles(model, [step])
    compare(model.weighted[0][0], step, EACH if depends else None)


@pytest.mark.parametrize(
    ("detector", "name"), [("gfl", "ld"), ("gfl", "pkd"), ("gfl", "fbkd"), ("gfl", "crosskd"), ("faster_rcnn", "chen2017")]
)
def test_mixed_images_are_cut_alike(detector: str, name: str) -> None:
    """Of a model as it trains: shares of the images' own objects and of their partners', which may be on another device."""
    use = MethodUse(id=name, weight=2.0, per_device_images=EACH)
    model, steps = steps_of(detector, use, mixed=True)
    distiller = model.weighted[0][0]
    torch.manual_seed(3)  # of the samplers
    found = model(**images(mixed=True), mode="loss")
    if name == "crosskd":
        steps = in_doubles(model, steps)
    expected: dict[str, float] = {}
    for share, step in zip((0.3, 0.7), steps[2:], strict=True):
        compare(distiller, step, EACH)
        each = [distiller(device) for device in on_devices(step, EACH)]
        for loss in each[0]:
            expected[loss] = expected.get(loss, 0.0) + 2.0 * share * sum(losses[loss].item() for losses in each) / len(each)
    assert {loss: found[loss].item() for loss in expected} == pytest.approx(expected, rel=1e-5)


def test_unequal_parts_count_alike_and_have_at_most_the_published_images() -> None:
    assert [device_shares(images, 3) for images in (1, 3, 4, 8, 16)] == [[1], [3], [2, 2], [3, 3, 2], [3, 3, 3, 3, 2, 2]]
    model, (step,) = steps_of("gfl", MethodUse(id="ld"))
    distiller, whole = model.weighted[0][0], model.weighted[0][0](step)["loss_ld"]
    assert model.weighted[0][1].per_device_images == 3
    assert_close(over_devices(distiller, step, 3)["loss_ld"], whole / 6, "a sum of all images over 6 devices")
    assert_close(over_devices(distiller, step, 4096)["loss_ld"], whole, "one device")


@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize("kind", [ONE, TWO])
def test_parts_are_views_of_the_step_with_their_own_images(kind: Kind, objects: bool) -> None:
    step = make_step(kind, objects=objects, images=5)
    parts = step.parts([2, 2, 1])
    assert [part.images for part in parts] == [2, 2, 1]
    for outputs, whole in (([part.student for part in parts], step.student), ([part.teacher for part in parts], step.teacher)):
        for level, maps in enumerate(whole.neck):
            assert torch.equal(torch.cat([each.neck[level] for each in outputs]), maps)
            assert outputs[1].neck[level].data_ptr() == maps[2:].data_ptr()
    assert torch.equal(torch.cat([part.student.of(Assignment).labels[0] for part in parts]), step.student.of(Assignment).labels[0])
    assert [RoIs in part.student.captured for part in parts] == [kind is TWO] * 3


def test_proposals_go_with_their_images_and_are_numbered_anew() -> None:
    step = make_step(TWO, images=5)
    image = torch.tensor([0.0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 4, 4])
    for outputs in (step.student, step.teacher):
        outputs.of(RoIs).rois[:, 0] = image
    rois = [part.student.of(RoIs) for part in step.parts([2, 2, 1])]
    assert [each.rois[:, 0].tolist() for each in rois] == [[0, 0, 0, 1], [0, 0, 1, 1, 1, 1], [0, 0]]
    assert torch.equal(torch.cat([each.features for each in rois]), step.student.of(RoIs).features)
