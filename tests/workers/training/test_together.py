"""Two processes that train one trial on shares of its batches: the step of one process, and all that follows from it.

They are real processes, which speak by gloo as several CPUs of a node do. Most are forked from this one, which has imported everything; the
trial that hangs starts its own as it does anywhere.
"""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from mmdet.models.task_modules.samplers import RandomSampler
from torch import Tensor, distributed, multiprocessing

from orchestrator.driving.deadlines import Deadlines, Watch, end_process
from orchestrator.driving.trials.order import Order
from orchestrator.storage.files import SharedFolder
from studies.spec import MethodUse, Network
from studies.trial import TrialFailure, TrialSpec
from tests.workers.synthetic import batch
from workers.detectors import build, describe
from workers.distillation.student import DistilledDetector
from workers.failures import failures_named
from workers.training import launch, trial
from workers.training.losses import LossSums
from workers.training.member import Member
from workers.training.profile import STEPS, WARM_UP
from workers.training.progress import EpochReport
from workers.training.result import TrialResult
from workers.training.seeding import seed_everything
from workers.training.together import SharedBatchNorm, Together
from workers.training.trial import run_trial
from workers.weights.store import store_beside

IMAGES, PROCESSES = 4, 2


@pytest.fixture(autouse=True, scope="module")
def _forked() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as change:
        change.setattr(launch, "START", "fork")
        yield


CASES = {
    "plain one-stage": ("gfl", []),
    "distilled one-stage": ("gfl", ["fitnet", "ld", "crosskd", "pkd", "gkd", "dist"]),
    "plain two-stage": ("faster_rcnn", []),
    "distilled two-stage": ("faster_rcnn", ["fitnet", "chen2017", "dist"]),
}


class FirstSampler(RandomSampler):
    """Takes the first ones: which samples are drawn is no matter of how many processes draw them."""

    def random_choice(self, gallery: Any, num: int) -> Any:
        return gallery[:num]


def in_processes(work: Callable[..., Any], tmp_path: Path, *given: Any) -> list[Any]:
    """What `work` gives in each of the processes, in order."""
    start = multiprocessing.get_context("fork")  # which imports nothing again
    processes = [start.Process(target=_process, args=(rank, work, str(tmp_path), given)) for rank in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(500)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    return [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(PROCESSES)]


def _process(rank: int, work: Callable[..., Any], folder: str, given: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    meeting, wait = f"file://{folder}/group", timedelta(minutes=5)
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=PROCESSES, timeout=wait)
    torch.save(work(Together(), *given), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def images(first: int, last: int) -> dict[str, Any]:
    """Some of the images of the batch: objects of an image move with its number."""
    data = batch(images=IMAGES)
    for number, sample in enumerate(data["data_samples"]):
        sample.gt_instances.bboxes += number
    return {"inputs": data["inputs"][first:last], "data_samples": data["data_samples"][first:last]}


def member_of(case: str, together: Together) -> Member:
    """A member whose heads have something to say and whose samplers do not draw."""
    detector, methods = CASES[case]
    spec = [Network(detector=detector, backbone=backbone, width=8) for backbone in ("resnet18", "resnet34")]
    torch.manual_seed(0)
    models = [build(network, 10) for network in spec]
    for model in models:
        for parameter in model.parameters():
            parameter.data += 0.03 * torch.randn_like(parameter)
            parameter.data[parameter.data < -3] += 4  # surer of classes: divisors that follow from scores are kept above one a device
        if hasattr(model, "roi_head"):
            model.rpn_head.sampler.__class__ = model.roi_head.bbox_sampler.__class__ = FirstSampler
    uses = [MethodUse(id=method, per_device_images=2 if method in ("pkd", "dist", "chen2017") else None) for method in methods]
    infos = describe(spec[0], models[0]), describe(spec[1], models[1])
    model = DistilledDetector(models[0], models[1], uses, infos) if methods else models[0]
    schedule = {"epochs": 1, "batch_size": IMAGES}
    made = TrialSpec(dataset="digits", scale="smoke", network=spec[0], schedule=schedule, seed=0, distillers=uses)
    return Member(model, made, 10, together)


def step(together: Together, case: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Losses, gradients and running statistics of a step on this process's share of the images."""
    member = member_of(case, together)
    member.begin_epoch(0)
    if member.distilled:
        member.model.iteration = 1000  # past every ramp
    each = IMAGES // together.world
    data = images(each * together.rank, each * (together.rank + 1))
    total, losses = member.model.parse_losses(member.parallel(**data, mode="loss"))
    total.backward()
    gradients = {name: parameter.grad for name, parameter in member.model.named_parameters() if parameter.grad is not None}
    statistics = {name: tensor for name, tensor in member.detector.state_dict().items() if "running_" in name}
    return {name: value.detach() for name, value in losses.items()}, gradients, statistics


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    largest = max(tensor.abs().max().item() for tensor in expected.values())
    for name, tensor in expected.items():
        apart = (found[name] - tensor).abs().max().item()
        assert apart <= 1e-5 * max(largest, 1e-3), (name, apart, largest)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_of_a_step_are_those_of_one_process(tmp_path: Path, case: str) -> None:
    losses, gradients, statistics = step(Together(), case)
    both = in_processes(step, tmp_path, case)
    means = {name: torch.stack([found[0][name] for found in both]).mean(0) for name in losses}
    assert_close(means, losses)
    for _, ours, running in both:
        assert_close(ours, gradients)
        assert_close(running, statistics)
    assert len(gradients) > 50
    assert all(value > 0 for name, value in losses.items() if "loss" in name)  # beside them a RoI head tells its accuracy


def agreement(together: Together) -> dict[str, Any]:
    """What is told and decided by processes with different things to say."""
    first = together.rank == 0
    sums = LossSums()
    sums.add({"loss_cls": torch.tensor(1.0 if first else float("nan")), "loss": torch.tensor(2.0)})
    try:
        sums.means(together)
        failure = ""
    except TrialFailure as error:
        failure = error.sentence
    seed_everything(0, 1, together.rank)
    return {
        "decided": together.agreed(first, not first),
        "failure": failure,
        "gathered": together.gathered(f"of {together.rank}"),
        "first": together.from_first(together.rank),
        "mask": torch.rand(3).tolist(),
    }


def test_what_is_decided_is_the_first_ones_and_nan_is_everybodys(tmp_path: Path) -> None:
    first, second = in_processes(agreement, tmp_path)
    masks = [each.pop("mask") for each in (first, second)]
    assert first == second
    assert first["decided"] == (True, False)
    assert first["failure"].startswith("loss_cls became NaN or infinite")
    assert first["gathered"] == ["of 0", "of 1"]
    assert first["first"] == 0
    assert masks[0] != masks[1]  # as on the papers' devices
    seed_everything(0, 1)
    assert torch.rand(3).tolist() == masks[0]  # the first one's are those of a process alone


def norm(together: Together) -> dict[str, Tensor]:
    torch.manual_seed(0)
    features = torch.randn(4, 5, 3, 3) * 4 + 2
    own = features[2 * together.rank : 2 * together.rank + 2] if together.world > 1 else features
    own = own.clone().requires_grad_()
    made = torch.nn.BatchNorm2d(5)
    with torch.no_grad():
        made.weight.uniform_(0.5, 2)
        made.bias.normal_()
    if together.world > 1:
        made.__class__ = SharedBatchNorm
    given = made(own)
    (given * torch.linspace(-1, 1, 5)[:, None, None]).square().sum().backward()
    assert own.grad is not None
    made.eval()
    return {"given": given.detach(), "grad": own.grad, "mean": made.running_mean, "var": made.running_var, "eval": made(features).detach()}


def test_a_shared_norm_is_the_norm_of_all_images(tmp_path: Path) -> None:
    expected, both = norm(Together()), in_processes(norm, tmp_path)
    for name in ("given", "grad"):
        torch.testing.assert_close(torch.cat([each[name] for each in both]), expected[name], rtol=1e-5, atol=1e-5)
    for name in ("mean", "var", "eval"):
        torch.testing.assert_close(both[1][name], expected[name], rtol=1e-5, atol=1e-5)


SPEC = {
    "dataset": "digits",
    "scale": "smoke",
    "network": {"detector": "gfl", "backbone": "resnet18", "width": 8},
    "schedule": {"epochs": 3, "batch_size": 4, "lr": 1e-3, "max_iterations": 3},
    "seed": 0,
    "init": "made/surer",
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[TrialResult, list[EpochReport]]:
    """A trial of two processes and what it told. It starts surer of classes than it would, for the reason above."""
    torch.manual_seed(0)
    state = build(Network.model_validate(SPEC["network"]), 10).state_dict()
    surer = {name: torch.where(tensor < -3, tensor + 4, tensor) if name.endswith("bias") else tensor for name, tensor in state.items()}
    start = tmp_path_factory.mktemp("start") / "surer.pth"
    torch.save({"state_dict": surer}, start)
    store_beside(data).import_file(SPEC["init"], start)
    told: list[EpochReport] = []
    spec = TrialSpec.model_validate({**SPEC, "workers": 2})
    return run_trial(spec, tmp_path_factory.mktemp("trial"), data, told.append), told


def test_a_trial_of_two_processes_ends_where_that_of_one_does(
    tmp_path: Path, data: Path, undisturbed: tuple[TrialResult, list[EpochReport]]
) -> None:
    """It reports once, evaluates every image once, and leaves one result."""
    alone: list[EpochReport] = []
    expected = run_trial(TrialSpec.model_validate(SPEC), tmp_path, data, alone.append)
    result, told = undisturbed
    assert [(epoch.epoch, epoch.epochs) for epoch in told] == [(1, 3), (2, 3), (3, 3)]
    for one, two in zip(alone, told, strict=True):
        for name in ("loss", "loss_cls", "loss_bbox", "loss_dfl"):
            assert two.metrics[name] == pytest.approx(one.metrics[name], rel=1e-3)
    states = [torch.load(each.checkpoint, weights_only=True)["state_dict"] for each in (expected, result)]
    for name, tensor in states[0].items():
        assert torch.allclose(states[1][name].float(), tensor.float(), rtol=0.02, atol=2e-3), name
    assert result.metrics.keys() == expected.metrics.keys()
    again: list[EpochReport] = []
    run_trial(TrialSpec.model_validate({**SPEC, "workers": 2}), result.checkpoint.parent, data, again.append)
    assert [epoch.metrics for epoch in again] == [epoch.metrics for epoch in told]  # told again, not trained again


def test_the_number_of_processes_is_part_of_the_key() -> None:
    keys = {TrialSpec.model_validate({**SPEC, "workers": count}).key("data", "code") for count in (1, 2, 4)}
    assert len(keys) == 3


def test_a_batch_that_is_no_equal_shares_is_told(tmp_path: Path, data: Path) -> None:
    spec = TrialSpec.model_validate({**SPEC, "workers": 2, "schedule": {**SPEC["schedule"], "batch_size": 3}})
    with pytest.raises(TrialFailure, match="3 images at once are no equal shares of 2 processes"):
        run_trial(spec, tmp_path / "trial", data, lambda epoch: None)


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever fails inside, nobody waits for a process that nobody ends."""
    try:
        yield
    finally:
        process.kill()


# A trial's process as a driver starts one. Once an epoch is over, one of the two that it has started stands still, whose number it says,
# past the file that its output goes to.
TRIAL = """
import os, sys, time
import psutil
said = os.fdopen(os.dup(1), "w")
from orchestrator.driving.trials.order import Order
from orchestrator.driving.trials.trainable import carry_out
def report(told):
    if "step" not in told:
        members = [each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())]
        members[1].suspend()
        while members[1].status() != psutil.STATUS_STOPPED:  # a signal takes its time
            time.sleep(0.01)
        print(len(members), members[1].pid, file=said, flush=True)
carry_out(Order.of({"order": sys.argv[1]}), "a node", report)
"""


def test_a_trial_one_of_whose_processes_hangs_or_dies_is_tried_again_and_ends_as_if_undisturbed(
    tmp_path: Path, data: Path, undisturbed: tuple[TrialResult, list[EpochReport]], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, folder, now = TrialSpec.model_validate({**SPEC, "workers": 2}), tmp_path / "trials" / "hangs", 0.0
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    watch = Watch(lambda late: end_process(late, SharedFolder(folder.parent)), Deadlines(silence=60), lambda: now)
    order = Order("hangs", spec.model_dump(mode="json"), str(folder), str(data), "digest").config()["order"]
    with subprocess.Popen([sys.executable, "-c", TRIAL, order], stdout=subprocess.PIPE, text=True) as process, ended(process):
        assert process.stdout
        watch.started("hangs", folder)
        count, still = map(int, process.stdout.readline().split())
        assert (count, psutil.Process(still).status()) == (2, psutil.STATUS_STOPPED)
        processes = psutil.Process(process.pid).children(recursive=True)
        watch.heard("hangs", epoch_ended=True)
        watch.look()
        while process.poll() is None and now < 1000:
            now += 1
            watch.look()
            if now > 61:
                process.wait(60)
        assert process.returncode == -9
    assert psutil.wait_procs(processes, timeout=60)[1] == []
    assert watch.over("hangs") == "no sign of life for 61 s (its deadline is 60 s)"

    def kill_one(done: EpochReport) -> None:
        for process in active_children()[-1:]:  # there are none yet while what was behind the trial is told
            process.kill()

    with pytest.raises(TrialFailure) as failure:
        run_trial(spec, folder, data, kill_one)
    assert failure.value.kind == "infra"
    assert active_children() == []
    state = torch.load(folder / "last.pt", weights_only=True)
    assert state["epoch"] >= 2  # one before it hung, one before it was killed
    assert len(state["processes"]) == 2
    resumed = run_trial(spec, folder, data, lambda epoch: None)
    assert resumed.checkpoint_sha256 == undisturbed[0].checkpoint_sha256
    assert json.loads((folder / "result.json").read_text())["metrics"]["AP"] == undisturbed[0].metrics["AP"]


def test_processes_end_with_the_one_that_started_them_also_where_they_stand_still(tmp_path: Path) -> None:
    """Else they would train on in a folder that the trial's next attempt has."""
    start = """
import sys, time
from pathlib import Path
from studies.trial import TrialSpec
from workers.training import launch
def waits(*given):
    launch._die_with_parent()
    given[-1].put(("epoch", None))
    time.sleep(600)
launch.START, launch._child = "fork", waits
said = []
def told(epoch):
    said.append(epoch)
    if len(said) == 2:
        print("here", flush=True)
launch.run_processes(TrialSpec.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(), told)
"""
    spec = TrialSpec.model_validate({**SPEC, "workers": 2}).model_dump_json()
    with subprocess.Popen([sys.executable, "-c", start, spec, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "here\n"
        members = psutil.Process(process.pid).children()
        assert len(members) == 2
        members[1].suspend()
        process.kill()
    assert psutil.wait_procs(members, timeout=60)[1] == []


def test_what_ended_the_first_process_is_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others die of missing it, which is the machine's doing and would be tried again."""

    def out_of_memory(*given: Any, **named: Any) -> None:
        with failures_named(4):
            if distributed.get_rank() == 1:
                raise MemoryError
            distributed.barrier()

    monkeypatch.setattr(trial, "run_trial", out_of_memory)
    with pytest.raises(TrialFailure) as failure:
        launch.run_processes(TrialSpec.model_validate({**SPEC, "workers": 2}), tmp_path, tmp_path, lambda epoch: None)
    assert failure.value.kind == "oom"


def test_a_profile_of_several_processes_is_that_of_the_first(tmp_path: Path, data: Path) -> None:
    schedule = {**SPEC["schedule"], "epochs": 1, "max_iterations": WARM_UP + STEPS}  # type: ignore[dict-item]
    spec = TrialSpec.model_validate({**SPEC, "workers": 2, "schedule": schedule, "init": None})
    run_trial(spec, tmp_path / "trial", data, lambda epoch: None, profile=tmp_path / "profile.json.gz")
    events = json.loads(gzip.decompress((tmp_path / "profile.json.gz").read_bytes()))["traceEvents"]
    names = {event.get("name", "") for event in events}
    assert len({name for name in names if name.startswith("ProfilerStep#")}) == STEPS
    assert any("all_reduce" in name or "allreduce" in name for name in names)  # what the processes wait for
