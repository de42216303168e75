"""The loop: what it tells inside an epoch, when it writes the checkpoint, and that one broken off anywhere ends as if undisturbed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from studies.recipes import RECIPES
from studies.spec import MethodUse, Network
from studies.trial import CHECKPOINT_NOW, TrialFailure, TrialSpec
from tests.workers.training.test_trial import SHORT, STUDENT, TEACHER, Killed, numbers, run, trial
from workers.detectors import build
from workers.detectors.memory import memory_of, remember
from workers.training.loop import Intervals
from workers.training.losses import LossSums
from workers.training.pace import Due, Pace
from workers.training.progress import EpochReport, StepReport
from workers.training.trial import run_trial

EVERY_STEP = Intervals(look_steps=1, checkpoint_seconds=0)
TWO_STAGE = {"backbone": "resnet18", "width": 8}


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory, data: Path) -> dict[str, dict[str, Any]]:
    """A trained teacher of each family."""
    made = {}
    for detector in ("gfl", "faster_rcnn"):
        network = TEACHER | {"detector": detector}
        result = run(trial(network=network, schedule=SHORT | {"epochs": 1}), tmp_path_factory.mktemp(detector), data)
        made[detector] = {"network": network, "checkpoint": str(result.checkpoint), "sha256": result.checkpoint_sha256}
    return made


def told_of(spec: TrialSpec, folder: Path, data: Path, intervals: Intervals) -> tuple[list[EpochReport], list[StepReport]]:
    epochs: list[EpochReport] = []
    steps: list[StepReport] = []
    run_trial(spec, folder, data, epochs.append, steps.append, intervals)
    return epochs, steps


def broken_off(spec: TrialSpec, folder: Path, data: Path, epoch: int, step: int) -> None:
    """Trains up to a step of an epoch, both counted from 1, and dies after its checkpoint."""

    def killed_after(done: StepReport) -> None:
        if (done.epoch, done.step) == (epoch, step):
            raise Killed

    with pytest.raises(Killed):
        run_trial(spec, folder, data, lambda done: None, killed_after, EVERY_STEP)


NANO = {"epochs": 2, "batch_size": 4, "lr": 1e-3, "max_iterations": 3}
BROKEN_OFF: dict[str, tuple[dict[str, Any], list[str], tuple[int, int]]] = {
    "plain": ({}, [], (2, 2)),
    "in its first step": ({}, [], (1, 1)),
    "after an epoch's last step": ({}, [], (2, 3)),
    "random masks": ({}, ["mgd", "fitnet"], (1, 2)),
    "random proposals": ({"network": TWO_STAGE | {"detector": "faster_rcnn"}}, ["chen2017"], (2, 1)),
    "thresholds that follow": ({"network": TWO_STAGE | {"detector": "dynamic_rcnn"}}, [], (2, 2)),
    "mixed images": (
        {
            "scale": "nano",
            "network": TWO_STAGE | {"detector": "retinanet", "form": "pdf_fpn"},
            "schedule": NANO | {"recipe": "pdf-70e"},
        },
        [],
        (1, 2),
    ),
}


@pytest.mark.parametrize("case", BROKEN_OFF)
def test_a_trial_killed_inside_an_epoch_ends_as_if_undisturbed(
    case: str, tmp_path: Path, data: Path, teachers: dict[str, dict[str, Any]]
) -> None:
    changes, methods, (epoch, step) = BROKEN_OFF[case]
    if methods:
        family = changes.get("network", STUDENT)["detector"]
        changes = changes | {"teacher": teachers[family], "distillers": [MethodUse(id=name) for name in methods]}
    spec = trial(**{"schedule": SHORT | {"epochs": 2}} | changes)
    undisturbed: list[EpochReport] = []
    expected = run(spec, tmp_path / "undisturbed", data, undisturbed.append)
    broken_off(spec, tmp_path / "killed", data, epoch, step)
    resumed: list[EpochReport] = []
    result = run(spec, tmp_path / "killed", data, resumed.append)
    assert numbers(resumed) == numbers(undisturbed)
    assert result.checkpoint_sha256 == expected.checkpoint_sha256


@pytest.mark.parametrize("loaders", [1, 3])
def test_loader_processes_begin_where_the_epoch_was_broken_off(
    loaders: int, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = trial(scale="nano", schedule=NANO | {"recipe": "ms-2x", "max_iterations": 5})
    expected = run(spec, tmp_path / "undisturbed", data)
    monkeypatch.setattr("workers.training.trial.loader_processes", lambda gpus, cpus: loaders)
    broken_off(spec, tmp_path / "killed", data, 2, 3)
    assert run(spec, tmp_path / "killed", data).checkpoint_sha256 == expected.checkpoint_sha256


def test_a_checkpoint_is_never_written_inside_a_step(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "smoke", replace(RECIPES["smoke"], average=0.5))
    spec = trial(scale="nano", schedule=NANO | {"recipe": "smoke", "batch_size": 6, "accumulate": 3})
    expected = run(spec, tmp_path / "undisturbed", data)
    broken_off(spec, tmp_path / "killed", data, 1, 5)  # five of nine batches: the second step has two of its three parts
    left = torch.load(tmp_path / "killed" / "last.pt", weights_only=True)
    assert left["processes"][0]["inside"]["losses"]["count"] == left["batches"] == 3
    assert {int(each["step"]) for each in left["optimizer"]["state"].values()} == {1}
    assert run(spec, tmp_path / "killed", data).checkpoint_sha256 == expected.checkpoint_sha256


def test_a_checkpoint_that_somebody_asks_for_is_written_after_the_step(tmp_path: Path, data: Path) -> None:
    spec = trial(schedule=SHORT | {"epochs": 2})
    expected = run(spec, tmp_path / "undisturbed", data)
    folder = tmp_path / "asked"

    def ask_then_die(done: StepReport) -> None:
        if (done.epoch, done.step) == (2, 1):
            (folder / CHECKPOINT_NOW).touch()
        if (done.epoch, done.step) == (2, 2):
            raise Killed

    with pytest.raises(Killed):
        run_trial(spec, folder, data, lambda done: None, ask_then_die, Intervals(look_steps=1))
    assert not (folder / CHECKPOINT_NOW).exists()
    left = torch.load(folder / "last.pt", weights_only=True)
    assert (left["epoch"], left["processes"][0]["inside"] is not None) == (1, True)
    assert run(spec, folder, data).checkpoint_sha256 == expected.checkpoint_sha256


def test_it_tells_of_its_steps(tmp_path: Path, data: Path) -> None:
    epochs, steps = told_of(trial(schedule=SHORT | {"epochs": 2}), tmp_path, data, Intervals(look_steps=2, look_seconds=3600))
    assert [(each.epoch, each.epochs, each.step, each.steps) for each in steps] == [(1, 2, 2, 3), (2, 2, 1, 3), (2, 2, 3, 3)]
    wanted = {"loss", "loss_cls", "loss_bbox", "loss_dfl", "lr", "images_per_second", "data_share", "memory"}
    assert {frozenset(each.metrics) for each in steps} == {frozenset(wanted)}
    last = steps[-1].metrics
    assert {name: last[name] for name in wanted if name.startswith("loss")} == {
        name: value for name, value in epochs[-1].metrics.items() if name.startswith("loss")
    }
    assert 0 < last["data_share"] < 1
    assert 0.05 < last["memory"] < 64
    assert 0 < last["lr"] < 1e-3  # of which it warms up


def test_a_long_evaluation_shows_that_it_lives(tmp_path: Path, data: Path) -> None:
    epochs, steps = told_of(trial(schedule=SHORT | {"epochs": 1}), tmp_path, data, Intervals(look_steps=3, look_seconds=1e-9))
    trained, evaluated = [each for each in steps if each.step == 3]  # a look after the last step, and the one batch of the validation
    assert evaluated.metrics["images_per_second"] == epochs[0].metrics["images_per_second"]
    assert evaluated.metrics["loss"] == trained.metrics["loss"]


def test_an_undisturbed_short_trial_tells_of_its_epochs_alone_and_writes_nothing_between(tmp_path: Path, data: Path) -> None:
    epochs, steps = told_of(trial(), tmp_path, data, Intervals(look_seconds=3600))
    assert (len(epochs), steps) == (3, [])
    assert torch.load(tmp_path / "last.pt", weights_only=True)["processes"][0]["inside"] is None


def test_it_is_evaluated_every_so_many_epochs_and_at_the_end(tmp_path: Path, data: Path) -> None:
    epochs, _ = told_of(trial(schedule=SHORT | {"epochs": 3, "val_interval": 2}), tmp_path / "seldom", data, Intervals())
    assert ["AP" in each.metrics for each in epochs] == [False, True, True]
    assert {"loss", "lr", "images_per_second", "epoch_seconds"} <= epochs[0].metrics.keys()
    assert {"mAP07", "Params"} <= epochs[-1].metrics.keys()
    always: list[EpochReport] = []
    expected = run(trial(), tmp_path / "always", data, always.append)
    result = run(trial(schedule=SHORT | {"val_interval": 3}), tmp_path / "once", data)
    assert result.checkpoint_sha256 == expected.checkpoint_sha256  # an evaluation changes nothing of the training
    best = torch.load(result.best_checkpoint, weights_only=True)["state_dict"]
    last = torch.load(result.checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(best[name], last[name]) for name in last)


# --- its parts


def test_losses_are_summed_and_looked_at_once() -> None:
    sums = LossSums()
    for value in (1.0, 2.0):
        sums.add({"loss": torch.tensor(3 * value), "loss_cls": torch.tensor(value)})
    assert sums.means() == {"loss": 4.5, "loss_cls": 1.5}
    again = LossSums()
    again.load_state_dict(sums.state_dict(), torch.device("cpu"))
    assert again.means() == sums.means()
    sums.add({"loss": torch.tensor(float("inf")), "loss_cls": torch.tensor(float("inf"))})
    with pytest.raises(TrialFailure, match="loss_cls became NaN or infinite") as failed:
        sums.means()
    assert failed.value.kind == "nan"


def test_something_is_due_after_steps_or_seconds_whichever_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("workers.training.pace.time.monotonic", lambda: now[0])
    due = Due(seconds=10, steps=3)
    assert [due() for _ in range(7)] == [False, False, True, False, False, True, False]
    now[0] = 10.0
    assert [due() for _ in range(4)] == [True, False, False, True]
    seldom = Due(seconds=10)
    assert not any(seldom() for _ in range(100))


def test_the_pace_goes_on_from_that_of_an_earlier_process(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("workers.training.pace.time.perf_counter", lambda: now[0])

    pace = Pace()
    for count in (2, 4):
        now[0] += 7.0  # in which others learn
        pace.given(count, 1.0)
        with pace.running():
            now[0] += 3.0  # to learn
    assert (pace.images, pace.seconds, pace.images_per_second, pace.data_share) == (6, 8.0, 0.75, 0.25)
    left, now[0] = pace.state_dict(), 100.0
    later = Pace()
    later.load_state_dict(left)
    with later.running():
        now[0] = 102.0
        assert (later.images, later.seconds, later.data_share) == (6, 10.0, 0.2)
        later.end_training()
        now[0] = 200.0
    assert (later.seconds, later.data_share) == (108.0, 0.2)


def test_thresholds_of_a_detector_that_are_no_weights_are_remembered() -> None:
    first, second = (build(Network(detector="dynamic_rcnn", backbone="resnet18", width=8), 3) for _ in range(2))
    first.roi_head.iou_history, first.roi_head.beta_history = [0.4, 0.5], [0.2, 0.3]
    first.roi_head.update_hyperparameters()
    first.roi_head.iou_history, first.roi_head.beta_history = [0.6], [0.1]
    remember(second, memory_of(first))
    assert memory_of(second) == memory_of(first)
    assert second.roi_head.bbox_assigner.pos_iou_thr == pytest.approx(0.45)
    assert second.roi_head.bbox_head.loss_bbox.beta == pytest.approx(0.25)
    assert memory_of(build(Network(detector="gfl", backbone="resnet18", width=8), 3)) == {}
