"""Trials of one teacher as a group: each ends with the numbers and the weights that it has alone, whatever becomes of the others."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from studies.catalog import DETECTORS
from studies.methods import methods
from studies.spec import MethodUse
from studies.trial import LEAVE_NOW, TrialFailure, TrialSpec
from tests.workers.training.test_trial import Killed, numbers, run, trial
from workers.distillation.student import DistilledDetector
from workers.distillation.teacher import Teacher
from workers.training.loop import Intervals, Outcome, Told
from workers.training.progress import EpochReport, Left, StepReport
from workers.training.result import TrialResult
from workers.training.trial import Seat, run_group

SHORT = {"epochs": 2, "batch_size": 2, "lr": 1e-3, "max_iterations": 2}
EVERY_STEP = Intervals(look_steps=1, checkpoint_seconds=0)
FEW = ("mgd", "ld", "fitnet")  # random masks, a head that is read, features alone
Taught = Callable[..., TrialSpec]


@dataclass
class Pupil:
    """A trial of a group, and what was told of it."""

    spec: TrialSpec
    folder: Path
    epochs: list[EpochReport] = field(default_factory=list)
    ends: list[Outcome] = field(default_factory=list)
    at_step: Callable[[StepReport], None] = lambda step: None

    @property
    def seat(self) -> Seat:
        return Seat(self.spec, self.folder, Told(self.epochs.append, lambda step: self.at_step(step), self.ends.append))

    @property
    def digest(self) -> str:
        (end,) = self.ends
        assert isinstance(end, TrialResult), end
        return end.checkpoint_sha256

    @property
    def batches(self) -> int:
        """Behind it, by its last checkpoint."""
        last = self.folder / "last.pt"
        return int(torch.load(last, weights_only=True)["batches"]) if last.exists() else 0


def group(folder: Path, specs: dict[str, TrialSpec]) -> dict[str, Pupil]:
    return {name: Pupil(spec, folder / name) for name, spec in specs.items()}


def train(pupils: dict[str, Pupil], data: Path, intervals: Intervals = EVERY_STEP) -> None:
    run_group([pupil.seat for pupil in pupils.values()], data, intervals)


def alone(pupil: Pupil, folder: Path, data: Path) -> tuple[str, list[dict[str, float]]]:
    """The digest and the numbers of the same trial on its own."""
    epochs: list[EpochReport] = []
    return run(pupil.spec, folder / "alone" / pupil.folder.name, data, epochs.append).checkpoint_sha256, numbers(epochs)


def hold_against_alone(pupils: dict[str, Pupil], folder: Path, data: Path) -> None:
    for name, pupil in pupils.items():
        assert (pupil.digest, numbers(pupil.epochs)) == alone(pupil, folder, data), name


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Taught:
    """Gives a trial of a method under a trained teacher of its own family."""

    @cache
    def teacher(detector: str, form: str | None) -> dict[str, Any]:
        network = {"detector": detector, "form": form, "backbone": "resnet34", "width": 8}
        result = run(trial(network=network, schedule=SHORT | {"epochs": 1}), tmp_path_factory.mktemp(detector), data)
        return {"network": network, "checkpoint": str(result.checkpoint), "sha256": result.checkpoint_sha256}

    def made(*names: str, detector: str = "gfl", form: str | None = None, backbone: str = "resnet18", **changes: Any) -> TrialSpec:
        network = {"detector": detector, "form": form, "backbone": backbone, "width": 8}
        uses = [MethodUse(id=name) for name in names]
        return trial(**{"network": network, "teacher": teacher(detector, form), "distillers": uses, "schedule": SHORT} | changes)

    return made


def fitting(detector: str) -> list[str]:
    family = DETECTORS[detector]
    return [name for name, method in methods().items() if method.misfit(family, family, method.options()) is None]


def test_three_methods_together_end_as_each_does_alone(tmp_path: Path, data: Path, taught: Taught, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    look = Teacher.look

    def counted(self: Teacher, inputs: torch.Tensor, exact: bool) -> Any:
        looks.append(id(inputs) if self._inputs is not inputs else 0)
        return look(self, inputs, exact)

    monkeypatch.setattr(Teacher, "look", counted)
    pupils = group(tmp_path, {name: taught(name) for name in FEW})
    train(pupils, data)
    assert (len(looks), sum(bool(each) for each in looks)) == (2 * 2 * 3, 2 * 2)  # the teacher ran once a step
    hold_against_alone(pupils, tmp_path, data)
    assert all((pupil.folder / "best.pth").exists() for pupil in pupils.values())


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["gfl", "retinanet", "faster_rcnn"])
def test_all_methods_together_end_as_each_does_alone(detector: str, tmp_path: Path, data: Path, taught: Taught) -> None:
    pupils = group(tmp_path, {name: taught(name, detector=detector) for name in fitting(detector)})
    assert len(pupils) > 5
    train(pupils, data)
    hold_against_alone(pupils, tmp_path, data)


def test_students_of_several_sizes_rates_and_parts_of_a_step_have_one_teacher(tmp_path: Path, data: Path, taught: Taught) -> None:
    schedule = SHORT | {"accumulate": 2}
    specs = {
        "small": taught("mgd", schedule=schedule),
        "large": taught("mgd", schedule=schedule, backbone="resnet50"),
        "slow": taught("mgd", schedule=schedule | {"lr": 1e-4, "val_interval": 2}),
    }
    pupils = group(tmp_path, specs)
    train(pupils, data)
    hold_against_alone(pupils, tmp_path, data)


def test_blended_images_are_those_that_each_draws_alone(tmp_path: Path, data: Path, taught: Taught) -> None:
    """MGD's masks and mixup draw from the same numbers, so that it soon sees other images than the others do."""
    changes: dict[str, Any] = {"scale": "nano", "schedule": SHORT | {"recipe": "pdf-70e"}, "detector": "retinanet", "form": "pdf_fpn"}
    pupils = group(tmp_path, {name: taught(name, **changes) for name in ("mgd", "fitnet")})
    train(pupils, data)
    hold_against_alone(pupils, tmp_path, data)


@pytest.mark.parametrize(("epoch", "step"), [(1, 1), (2, 2)])
def test_a_group_that_was_killed_between_two_members_steps_ends_as_if_undisturbed(
    tmp_path: Path, data: Path, taught: Taught, epoch: int, step: int
) -> None:
    """The first has its step and its checkpoint when it happens, the others have not."""
    pupils = group(tmp_path, {name: taught(name) for name in FEW})

    def dies(done: StepReport) -> None:
        if (done.epoch, done.step) == (epoch, step):
            raise Killed

    pupils["ld"].at_step = dies
    with pytest.raises(Killed):
        train(pupils, data)
    assert len({pupil.batches for pupil in pupils.values()}) == 2
    again = group(tmp_path, {name: pupil.spec for name, pupil in pupils.items()})
    train(again, data)
    hold_against_alone(again, tmp_path, data)


def test_one_whose_loss_becomes_nan_leaves_and_the_others_go_on(
    tmp_path: Path, data: Path, taught: Taught, monkeypatch: pytest.MonkeyPatch
) -> None:
    pupils = group(tmp_path, {name: taught(name) for name in FEW})
    forward = DistilledDetector.forward

    def broken(self: DistilledDetector, *args: Any, **kwargs: Any) -> Any:
        found = forward(self, *args, **kwargs)
        if self.weighted[0][1].id == "fitnet" and kwargs.get("mode") == "loss" and self.iteration == 1:
            return {name: value * float("nan") if name.startswith("loss_fitnet") else value for name, value in found.items()}
        return found

    with monkeypatch.context() as patched:
        patched.setattr(DistilledDetector, "forward", broken)
        train(pupils, data)
    (end,) = pupils.pop("fitnet").ends
    assert isinstance(end, TrialFailure)
    assert end.kind == "nan"
    hold_against_alone(pupils, tmp_path, data)


def test_one_that_finds_no_memory_beside_the_others_is_trained_alone_after_them(
    tmp_path: Path, data: Path, taught: Taught, monkeypatch: pytest.MonkeyPatch
) -> None:
    pupils = group(tmp_path, {name: taught(name) for name in FEW})
    forward, steps = DistilledDetector.forward, dict.fromkeys(FEW, 0)

    def short_of_memory(self: DistilledDetector, *args: Any, **kwargs: Any) -> Any:
        name = self.weighted[0][1].id
        steps[name] += kwargs.get("mode") == "loss"
        if name == "ld" and steps[name] == 3 and not pupils["mgd"].ends:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(DistilledDetector, "forward", short_of_memory)
    train(pupils, data)
    monkeypatch.undo()
    assert steps == {"mgd": 4, "ld": 3 + 2, "fitnet": 4}  # it went on from the end of its first epoch
    hold_against_alone(pupils, tmp_path, data)


def test_one_that_makes_room_leaves_the_others_and_goes_on_later(tmp_path: Path, data: Path, taught: Taught) -> None:
    pupils = group(tmp_path, {name: taught(name) for name in FEW})

    def ask(done: StepReport) -> None:
        if done.step == 1:
            (pupils["ld"].folder / LEAVE_NOW).touch()

    pupils["ld"].at_step = ask
    train(pupils, data)
    (end,) = pupils["ld"].ends
    assert isinstance(end, Left)
    pupils["ld"] = Pupil(pupils["ld"].spec, pupils["ld"].folder)
    late = {"ld": pupils["ld"], "cwd": Pupil(taught("cwd"), tmp_path / "cwd")}
    train(late, data)  # in other company, which is not as far
    hold_against_alone(pupils | late, tmp_path, data)


def test_what_belongs_together_is_a_matter_of_teacher_data_and_batches_alone(taught: Taught, tmp_path: Path, data: Path) -> None:
    one, other = taught("mgd"), taught("ld", schedule=SHORT | {"lr": 1e-4})
    assert one.group == other.group is not None
    strangers = [
        taught("mgd", seed=1),
        taught("mgd", schedule=SHORT | {"batch_size": 4}),
        taught("mgd", schedule=SHORT | {"epochs": 3}),
        taught("mgd", threads=2),
        taught("mgd", teacher=one.teacher.model_copy(update={"sha256": "f" * 64})) if one.teacher else one,
    ]
    assert len({one.group, *(stranger.group for stranger in strangers)}) == 1 + len(strangers)
    assert (trial().group, taught("mgd", workers=2).group) == (None, None)
    with pytest.raises(ValueError, match="trials of a group"):
        train(group(tmp_path, {"one": one, "stranger": strangers[0]}), data)
