"""A trial of `gpus: 0` stays on the CPU wherever it runs, also where torch sees a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.driving.trials.order import Order
from studies.spec import MethodUse, Resources
from tests.workers.training.test_trial import STUDENT, TEACHER, run, trial
from workers.datasets.loading import loader_processes

# Stands for a machine with a GPU: torch sees one before anything of ours is imported, and whatever reaches for it fails.
PRETEND = """
import torch
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 1
def touch(*arguments, **named):
    raise SystemExit("something reached for the GPU")
torch.cuda._lazy_init = torch.cuda.get_device_name = torch.cuda.current_device = torch.cuda.synchronize = touch
"""

TRIALS = """
import json, sys
from pathlib import Path
import mmengine.device
assert mmengine.device.get_device() == "cuda"
from studies.trial import TrialSpec
from workers.training.trial import run_trial
data, folder, *specs = sys.argv[1:]
for number, spec in enumerate(specs):
    result = run_trial(TrialSpec.model_validate_json(spec), Path(folder) / str(number), Path(data), lambda epoch: None)
    print("trained", result.checkpoint_sha256, result.environment["device"])
"""


def told(*arguments: str) -> str:
    result = subprocess.run([sys.executable, "-c", *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_trial_without_gpus_trains_and_evaluates_on_the_cpu_where_torch_sees_a_gpu(tmp_path: Path, data: Path) -> None:
    taught = run(trial(network=TEACHER), tmp_path / "teacher", data)
    teacher = {"network": TEACHER, "checkpoint": str(taught.checkpoint), "sha256": taught.checkpoint_sha256}
    methods = [MethodUse(id=method) for method in ("fitnet", "ld")]
    specs = [trial(), trial(teacher=teacher, distillers=methods), trial(network=STUDENT | {"detector": "faster_rcnn"})]
    lines = told(PRETEND + TRIALS, str(data), str(tmp_path / "there"), *(spec.model_dump_json() for spec in specs)).splitlines()
    expected = [run(spec, tmp_path / "here" / str(number), data).checkpoint_sha256 for number, spec in enumerate(specs)]
    assert [line for line in lines if line.startswith("trained")] == [f"trained {sha256} cpu, 1 threads" for sha256 in expected]


def test_the_speed_of_a_network_is_measured_on_the_cpu_unless_a_gpu_is_named() -> None:
    measured = (
        "import runpy, sys; sys.argv[0] = 'measure'; sys.argv += ['ssd', 'vgg16', '--scale', 'nano', '--speed', '--json'];"
        "runpy.run_module('workers.evaluation.costs', run_name='__main__')"
    )
    assert json.loads(told(PRETEND + measured))["images_per_second"] > 0


@pytest.mark.parametrize(("gpus", "seen"), [(0, ""), (1, "3")])
def test_a_trial_process_sees_the_gpus_that_it_was_given_and_no_others(tmp_path: Path, gpus: int, seen: str) -> None:
    order = Order("a trial", {"gpus": gpus}, str(tmp_path), str(tmp_path), "digest")
    process = """
import contextlib, os, sys
from orchestrator.driving.trials.trainable import train
with contextlib.suppress(Exception):
    train({"order": sys.argv[1]})  # an order that ends at once: its trial lacks everything else
print(repr(os.environ["CUDA_VISIBLE_DEVICES"]))
"""
    config: dict[str, Any] = order.config()
    ended = subprocess.run(
        [sys.executable, "-c", process, config["order"]],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines()[-1] == repr(seen)


def test_a_gpu_trial_on_operators_of_the_cpu_is_refused_at_its_start(tmp_path: Path, data: Path) -> None:
    start = """
import sys
from pathlib import Path
import mmcv.ops
mmcv.ops.get_compiling_cuda_version = lambda: "not available"  # as where mmcv was built without nvcc
from studies.trial import TrialFailure
from tests.workers.training.test_trial import run, trial
try:
    run(trial(gpus=1), Path(sys.argv[2]), Path(sys.argv[1]))
except TrialFailure as failure:
    print(failure.kind, failure.sentence)
"""
    said = told(PRETEND + start, str(data), str(tmp_path)).splitlines()[-1]
    assert said.startswith("user trials on a GPU need mmcv's CUDA operators, and this installation has them for the CPU alone: install")
    assert said.endswith("and run make setup again")


@pytest.mark.parametrize(("gpus", "cpus", "loaders"), [(0, 4, 0), (1, 1, 1), (1, 6, 6), (2, 8, 4), (1, 64, 8)])
def test_a_trial_on_a_gpu_loads_its_images_with_the_cpus_it_has(gpus: int, cpus: int, loaders: int) -> None:
    spec = trial(gpus=gpus, threads=Resources(gpus=gpus, cpus=cpus).threads)
    assert loader_processes(spec.gpus, spec.threads) == loaders
