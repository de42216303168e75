"""A trial's process on nodes that share no folder: a real training, killed inside an epoch, goes on elsewhere by the store."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.driving.trials.order import Order
from orchestrator.driving.trials.trainable import prepare_dataset
from orchestrator.settings import settings
from orchestrator.storage.cache import Cache
from orchestrator.storage.files import StoredFiles
from orchestrator.storage.storage import Storage
from studies.trial import TrialSpec

STORE = "s3://retort/trainable"
SCHEDULE = {"recipe": "smoke", "epochs": 3, "batch_size": 4, "max_iterations": 3}
NETWORK = {"detector": "gfl", "backbone": "resnet18", "width": 8}
TEACHER: dict[str, Any] = {"dataset": "digits", "scale": "nano", "network": NETWORK, "schedule": SCHEDULE, "seed": 0}
# What a node does with an order. Where it is told to, it is gone in the second step of the third epoch, once the two before are stored.
PROCESS = """
import json, os, signal, sys, time
from orchestrator import logs
from orchestrator.driving.trials.order import Order
from orchestrator.driving.trials.trainable import carry_out
from orchestrator.settings import settings
from orchestrator.storage.files import opened_files
from workers.files import file_sha256
from workers.training import member

order, dies = Order.of({"order": sys.argv[1]}), len(sys.argv) > 2
folder, steps, learn = order.folder.rsplit("/", 1)[-1], 0, member.Member.learn

def stored():
    manifest = opened_files(settings()).storage.manifest("trials/" + folder)
    sent = manifest and manifest.files.get("last.pt")
    return sent and sent.sha256 == file_sha256(settings().trials / folder / "last.pt")

def counted(self, batch):
    global steps
    steps += 1
    if dies and steps == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return learn(self, batch)

def report(told):
    print(json.dumps(told), file=sys.__stderr__, flush=True)
    while dies and told.get("epoch") == 2 and not stored():
        time.sleep(0.1)

member.Member.learn = counted
logs.configure()
print(json.dumps(carry_out(order, "a node", report)))
"""


@pytest.fixture(scope="module")
def digest(data: Path, s3: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the digits, which the driver's machine has prepared and shared."""
    home = tmp_path_factory.mktemp("head")
    (home / "data").symlink_to(data)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {"RETORT_HOME": str(home), "RETORT_STORE": STORE}.items():
            environment.setenv(name, value)
        return prepare_dataset("digits", settings(), None)


def on_node(disk: Path, order: Order, *dies: str) -> tuple[int, dict[str, Any]]:
    """An order carried out by a process on a node with a disk of its own; its exit status and what it came to."""
    variables = {"RETORT_HOME": str(disk / "no-such-home"), "RETORT_STORE": STORE, "RETORT_CACHE": str(disk)}
    command = [sys.executable, "-c", PROCESS, order.config()["order"], *dies]
    ended = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    lines = ended.stdout.strip().splitlines()
    assert ended.returncode or lines, ended.stderr
    return ended.returncode, json.loads(lines[-1]) if lines else {}


@pytest.mark.slow  # tests/faults/test_storage.py has it on a whole stack
def test_a_training_goes_on_on_another_node_with_the_same_numbers_and_its_student_finds_its_checkpoint(digest: str, tmp_path: Path) -> None:
    def order(folder: str, fence: int, spec: dict[str, Any] = TEACHER) -> Order:
        resolved = TrialSpec.model_validate(spec).model_dump(mode="json")
        return Order("teacher", resolved, f"/nowhere/trials/{folder}", "/nowhere/data", digest, fence=fence)

    first, second = tmp_path / "first", tmp_path / "second"
    assert on_node(first, order("disturbed", 1), "dies") == (-9, {})
    code, disturbed = on_node(second, order("disturbed", 2))
    assert code == 0
    _, undisturbed = on_node(second, order("undisturbed", 3))
    result = disturbed["result"]
    assert result["checkpoint"] == "disturbed/model.pth"
    assert result["checkpoint_sha256"] == undisturbed["result"]["checkpoint_sha256"]
    metrics = [{k: v for k, v in each["result"]["metrics"].items() if k != "FPS"} for each in (disturbed, undisturbed)]
    assert metrics[0] == metrics[1]
    files = StoredFiles(Cache(Storage(STORE), tmp_path / "here"))
    output = files.read("disturbed", "output.log", 0, 10**6).decode()
    assert output.count("training in process") == 2
    assert (output.count("epoch 1/3"), output.count("epoch 3/3")) == (2, 1)  # the first is told again, not trained again
    taught = {**TEACHER, "teacher": {"network": NETWORK, "checkpoint": result["checkpoint"], "sha256": result["checkpoint_sha256"]}}
    code, student = on_node(first, order("student", 4, taught | {"distillers": [{"id": "fitnet"}]}))
    assert code == 0
    assert student["result"]["checkpoint"] == "student/model.pth"
    assert not (second / "no-such-home").exists()
    assert not (first / "no-such-home").exists()
