"""One trial: it learns, repeats to the last digit, resumes as if undisturbed, and fails with a class and a sentence."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.structures import DetDataSample

from studies.spec import MethodUse, Network
from studies.trial import TrialFailure, TrialSpec
from workers.detectors import build, describe
from workers.distillation.student import DistilledDetector
from workers.distillers.crosskd import Tower
from workers.evaluation.costs import counted_size, multiply_adds, on_paper
from workers.files import file_sha256
from workers.training.progress import EpochReport
from workers.training.result import TrialResult
from workers.training.trial import run_trial

STUDENT = {"detector": "gfl", "backbone": "resnet18", "width": 8}
TEACHER = {"detector": "gfl", "backbone": "resnet34", "width": 8}
SHORT = {"epochs": 3, "batch_size": 4, "lr": 1e-3, "max_iterations": 3}  # 3 x 3 steps


def trial(**changes: Any) -> TrialSpec:
    return TrialSpec.model_validate({"dataset": "digits", "scale": "smoke", "network": STUDENT, "schedule": SHORT, "seed": 0} | changes)


def run(spec: TrialSpec, folder: Path, data: Path, report: Callable[[EpochReport], None] = lambda epoch: None) -> TrialResult:
    return run_trial(spec, folder, data, report)


def numbers(epochs: list[EpochReport]) -> list[dict[str, float]]:
    """What must repeat: everything but the speeds."""
    return [{k: v for k, v in e.metrics.items() if k not in ("images_per_second", "epoch_seconds", "FPS")} for e in epochs]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, data: Path) -> dict[str, Any]:
    result = run(trial(network=TEACHER), tmp_path_factory.mktemp("teacher"), data)
    return {"network": TEACHER, "checkpoint": str(result.checkpoint), "sha256": result.checkpoint_sha256}


def distilled(teacher: dict[str, Any], *methods: str, **changes: Any) -> TrialSpec:
    return trial(teacher=teacher, distillers=[MethodUse(id=m) for m in methods], **changes)


def test_the_same_trial_twice_gives_the_same_numbers_and_weights(tmp_path: Path, data: Path, teacher: dict[str, Any]) -> None:
    epochs: dict[str, list[EpochReport]] = {"a": [], "b": []}
    results = {name: run(distilled(teacher, "pdf_distil", "ld"), tmp_path / name, data, epochs[name].append) for name in epochs}
    assert numbers(epochs["a"]) == numbers(epochs["b"])
    assert results["a"].checkpoint_sha256 == results["b"].checkpoint_sha256


def test_another_seed_gives_other_numbers(tmp_path: Path, data: Path) -> None:
    results = [run(trial(seed=seed), tmp_path / str(seed), data) for seed in (0, 1)]
    assert results[0].checkpoint_sha256 != results[1].checkpoint_sha256


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the trial may catch it."""


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_killed_trial_resumes_and_ends_as_if_undisturbed(tmp_path: Path, data: Path, teacher: dict[str, Any], epoch: int) -> None:
    spec = distilled(teacher, "fitnet")
    undisturbed: list[EpochReport] = []
    expected = run(spec, tmp_path / "undisturbed", data, undisturbed.append)

    def killed_after(done: EpochReport) -> None:
        if done.epoch == epoch:
            raise Killed

    with pytest.raises(Killed):
        run(spec, tmp_path / "killed", data, killed_after)
    resumed: list[EpochReport] = []
    result = run(spec, tmp_path / "killed", data, resumed.append)
    assert [e.epoch for e in resumed] == [1, 2, 3]  # the done ones are told again
    assert numbers(resumed) == numbers(undisturbed)
    assert result.checkpoint_sha256 == expected.checkpoint_sha256


def test_a_step_in_parts_is_one_step_and_resumes(tmp_path: Path, data: Path, teacher: dict[str, Any]) -> None:
    schedule = {"recipe": "smoke", "epochs": 2, "batch_size": 6, "lr": 1e-3, "max_iterations": 3, "warm_up": 4, "accumulate": 3}
    spec = distilled(teacher, "fitnet", scale="nano", schedule=schedule)
    expected = run(spec, tmp_path / "undisturbed", data)
    state = torch.load(tmp_path / "undisturbed" / "last.pt", weights_only=True)
    assert state["batches"] == 2 * 3 * 3
    assert {int(each["step"]) for each in state["optimizer"]["state"].values()} == {2 * 3}

    def killed_after(done: EpochReport) -> None:
        if done.epoch == 1:
            raise Killed

    with pytest.raises(Killed):
        run(spec, tmp_path / "killed", data, killed_after)
    assert run(spec, tmp_path / "killed", data).checkpoint_sha256 == expected.checkpoint_sha256
    assert "no 4 equal parts" in failure(trial(scale="nano", schedule=schedule | {"accumulate": 4}), tmp_path / "uneven", data).sentence


def test_a_finished_trial_is_not_trained_again(tmp_path: Path, data: Path) -> None:
    first = run(trial(), tmp_path, data)
    written = first.checkpoint.stat().st_mtime_ns
    told: list[EpochReport] = []
    assert run(trial(), tmp_path, data, told.append) == first
    assert first.checkpoint.stat().st_mtime_ns == written
    assert [e.epoch for e in told] == [1, 2, 3]


def test_the_exported_student_is_exactly_the_plain_detector(tmp_path: Path, data: Path, teacher: dict[str, Any]) -> None:
    plain = torch.load(run(trial(), tmp_path / "plain", data).checkpoint, weights_only=True)["state_dict"]
    student = torch.load(run(distilled(teacher, "fitnet", "ld"), tmp_path / "distilled", data).checkpoint, weights_only=True)["state_dict"]
    assert {k: v.shape for k, v in student.items()} == {k: v.shape for k, v in plain.items()}


def test_reports_name_every_loss_and_the_speed(tmp_path: Path, data: Path, teacher: dict[str, Any]) -> None:
    told: list[EpochReport] = []
    run(distilled(teacher, "fitnet", "ld"), tmp_path, data, told.append)
    wanted = {
        "AP",
        "AP50",
        "AP75",
        "loss",
        "loss_cls",
        "loss_bbox",
        "loss_dfl",
        "loss_fitnet",
        "loss_ld",
        "images_per_second",
        "epoch_seconds",
        "lr",
    }
    assert wanted <= told[-1].metrics.keys()
    parts = sum(v for k, v in told[-1].metrics.items() if k.startswith("loss_"))
    assert told[-1].metrics["loss"] == pytest.approx(parts, rel=1e-4)
    assert told[-1].epochs == 3


def test_the_last_epoch_measures_everything_that_applies(tmp_path: Path, data: Path, teacher: dict[str, Any]) -> None:
    told: list[EpochReport] = []
    result = run(distilled(teacher, "fitnet"), tmp_path, data, told.append)
    late = {"AP60", "AP90", "mAP07", "err_localisation", "err_missed", "Params", "FLOPs", "FPS"}
    assert late.isdisjoint(told[0].metrics)
    assert late <= told[-1].metrics.keys()
    assert late <= result.metrics.keys()
    assert result.metrics["AP50"] + sum(v for k, v in result.metrics.items() if k.startswith("err_")) == pytest.approx(100)


def test_a_distilled_student_costs_what_the_plain_detector_costs(tmp_path: Path, data: Path, teacher: dict[str, Any]) -> None:
    plain, student = run(trial(), tmp_path / "plain", data), run(distilled(teacher, "crosskd"), tmp_path / "distilled", data)
    network = Network(**STUDENT)
    expected = {
        "Params": sum(p.numel() for p in build(network, 10).parameters()) / 1e6,  # nothing of it is frozen
        "FLOPs": multiply_adds(on_paper(network, 10), counted_size(network, "nano"))["total"] / 1e9,
    }
    for result in (plain, student):
        assert {name: result.metrics[name] for name in expected} == expected
        assert result.metrics["FPS"] > 0


def test_a_network_of_masks_gets_their_metrics_and_its_costs(tmp_path: Path, data: Path) -> None:
    result = run(trial(network=STUDENT | {"detector": "mask_rcnn"}, schedule=SHORT | {"epochs": 1}), tmp_path, data)
    assert {"AP", "mask_AP", "mask_AP50", "Params", "FLOPs", "FPS"} <= result.metrics.keys()


def test_a_prediction_leaves_nothing_for_the_next_training_step() -> None:
    student, teacher = (build(Network(**STUDENT), 10) for _ in range(2))
    infos = tuple(describe(Network(**STUDENT), model) for model in (student, teacher))
    model = DistilledDetector(student, teacher, [MethodUse(id="crosskd")], infos).eval()
    samples = [DetDataSample(metainfo={"img_shape": (128, 128), "ori_shape": (128, 128), "scale_factor": (1.0, 1.0)}) for _ in range(2)]
    model(torch.rand(2, 3, 128, 128), samples, mode="predict")
    assert model.recorder.neck == ()
    assert model.recorder.outputs is None
    assert model.recorder.captures[Tower].take() == {"cls": (), "reg": ()}


@pytest.mark.parametrize("detector", ["gfl", "retinanet"])
def test_a_trial_learns(tmp_path: Path, data: Path, detector: str) -> None:
    told: list[EpochReport] = []
    schedule = {"epochs": 2, "batch_size": 16, "lr": 4e-3, "max_iterations": 25}
    run(trial(network=STUDENT | {"detector": detector}, schedule=schedule), tmp_path, data, told.append)
    assert told[1].metrics["loss"] < 0.97 * told[0].metrics["loss"]


def failure(spec: TrialSpec, folder: Path, data: Path) -> TrialFailure:
    with pytest.raises(TrialFailure) as caught:
        run(spec, folder, data)
    assert "\n" not in caught.value.sentence
    return caught.value


def test_a_loss_that_explodes_fails_as_nan(tmp_path: Path, data: Path) -> None:
    spec = trial()  # a learning rate that no study could ask for
    spec = spec.model_copy(update={"schedule": spec.schedule.model_copy(update={"lr": 1e30})})
    found = failure(spec, tmp_path, data)
    assert found.kind == "nan"
    assert "loss" in found.sentence


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: what the kernel then answers to a write is what a full disk gives."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_trial_that_cannot_write_is_lost_and_ends_as_if_undisturbed_once_it_can(tmp_path: Path, data: Path) -> None:
    undisturbed: list[EpochReport] = []
    expected = run(trial(), tmp_path / "undisturbed", data, undisturbed.append)
    with small_files(100_000):
        lost = failure(trial(), tmp_path / "full", data)
    assert lost.kind == "infra"
    assert lost.sentence.startswith("OSError: [Errno 27] File too large")
    written = [file.stat().st_size for file in (tmp_path / "full").rglob("*") if file.is_file()]
    assert all(size < 100_000 for size in written)  # what was not written to its end takes no place
    epochs: list[EpochReport] = []
    result = run(trial(), tmp_path / "full", data, epochs.append)
    assert numbers(epochs) == numbers(undisturbed)
    assert result.checkpoint_sha256 == expected.checkpoint_sha256


def test_a_missing_teacher_checkpoint_fails_as_user(tmp_path: Path, data: Path, teacher: dict[str, Any]) -> None:
    found = failure(distilled(teacher | {"checkpoint": str(tmp_path / "gone.pth")}, "fitnet"), tmp_path / "t", data)
    assert found.kind == "user"
    assert "gone.pth" in found.sentence


def test_a_teacher_checkpoint_of_another_network_fails_as_user(tmp_path: Path, data: Path, teacher: dict[str, Any]) -> None:
    found = failure(distilled(teacher | {"network": STUDENT}, "fitnet"), tmp_path, data)
    assert found.kind == "user"
    assert "another network" in found.sentence


def test_a_teacher_checkpoint_with_another_digest_fails_as_user(tmp_path: Path, data: Path, teacher: dict[str, Any]) -> None:
    found = failure(distilled(teacher | {"sha256": "0" * 64}, "fitnet"), tmp_path, data)
    assert found.kind == "user"
    assert "sha256" in found.sentence


def test_a_file_that_is_no_checkpoint_fails_as_user(tmp_path: Path, data: Path, teacher: dict[str, Any]) -> None:
    junk = tmp_path / "junk.pth"
    junk.write_bytes(b"no checkpoint")
    found = failure(distilled(teacher | {"checkpoint": str(junk), "sha256": file_sha256(junk)}, "fitnet"), tmp_path / "t", data)
    assert found.kind == "user"


def test_an_unprepared_dataset_fails_as_data(tmp_path: Path) -> None:
    assert failure(trial(), tmp_path / "t", tmp_path / "nothing").kind == "data"


def small_copy(data: Path, place: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The dataset with another train annotation file; images are shared."""
    folder = place / "digits"
    folder.mkdir(parents=True)
    for name in ("train", "val"):
        (folder / name).symlink_to(data / "digits" / name)
    for name in ("val.json", "manifest.json"):
        (folder / name).write_bytes((data / "digits" / name).read_bytes())
    document = json.loads((data / "digits" / "train.json").read_text())
    change(document)
    (folder / "train.json").write_text(json.dumps(document))
    return place


def test_empty_annotations_fail_as_data(tmp_path: Path, data: Path) -> None:
    place = small_copy(data, tmp_path / "data", lambda document: document.update(annotations=[]))
    assert failure(trial(), tmp_path / "t", place).kind == "data"


def test_a_missing_image_fails_as_data_and_is_named(tmp_path: Path, data: Path) -> None:
    def rename(document: dict[str, Any]) -> None:
        for image in document["images"]:
            image["file_name"] = "lost-" + image["file_name"]

    found = failure(trial(), tmp_path / "t", small_copy(data, tmp_path / "data", rename))
    assert found.kind == "data"
    assert "lost-" in found.sentence


WITHOUT_GPUS = """
import sys
from pathlib import Path
from studies.trial import TrialFailure
from tests.workers.training.test_trial import run, trial
try:
    run(trial(gpus=1), Path(sys.argv[2]), Path(sys.argv[1]))
except TrialFailure as failure:
    print(failure.kind, failure.sentence)
"""


def test_a_gpu_that_is_not_there_fails_as_user(tmp_path: Path, data: Path) -> None:
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    told = subprocess.run([sys.executable, "-c", WITHOUT_GPUS, str(data), str(tmp_path)], env=hidden, capture_output=True, text=True)
    assert told.stdout.startswith("user the study asks for a GPU (resources.gpus)"), told.stdout + told.stderr


def test_a_torn_write_never_replaces_the_checkpoint(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import workers.files as module

    run(trial(schedule=SHORT | {"epochs": 1}), tmp_path, data)
    before = (tmp_path / "last.pt").read_bytes()
    monkeypatch.setattr(module.os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        module.write_checkpoint({"state_dict": {}}, tmp_path / "last.pt")
    assert (tmp_path / "last.pt").read_bytes() == before


SHORT_OF_MEMORY = """
import resource, sys
from pathlib import Path
from studies.trial import TrialFailure
from tests.workers.training.test_trial import SHORT, run, trial
run(trial(), Path(sys.argv[2]) / "first", Path(sys.argv[1]))  # everything is loaded
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
try:
    run(trial(schedule=SHORT | {"batch_size": 256, "max_iterations": 1}), Path(sys.argv[2]) / "second", Path(sys.argv[1]))
except TrialFailure as failure:
    print(failure.kind, failure.sentence)
"""


def test_a_batch_beyond_the_memory_fails_as_oom(tmp_path: Path, data: Path) -> None:
    told = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY, str(data), str(tmp_path)], capture_output=True, text=True)
    assert told.stdout.startswith("oom "), told.stdout + told.stderr
    assert "256 images at once" in told.stdout
    assert "schedule.accumulate so that 128 pass at once" in told.stdout
