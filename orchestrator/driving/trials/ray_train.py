"""Starts the processes of one trial with Ray Train, inside the process that Tune has started for it, on its node and devices.

Ray knows no way to start actors on what another one was granted. So they ask for nothing but the node, and take the devices of the trial's
own process. Ray ends no process that stands still; these end with the trial's own by a pipe that it holds.
"""

import os
import pickle
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

# Train reads these when it starts: it looks for what has ended soon, and leaves nodes that are about to leave to the driver.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # what is printed would stand twice in the trial's output

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy
from ray.train.v2.api.exceptions import WorkerGroupError
from ray.util.queue import Queue

from orchestrator.driving.trials.lifeline import end_with
from orchestrator.outputs import written_to

ENDING_SECONDS = 60.0  # that Train has for clearing away what it has started
SHARE = 0.001  # of Ray's resource for being on a node, of which each has one


class Granted(FixedScalingPolicy):
    """Leaves Ray's autoscaler alone: devices are there already, and what Train asks for would replace what the broker does."""

    def after_controller_start(self, train_run_context: Any) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass


class Trainer(TorchTrainer):
    def _initialize_and_run_controller(self, **given: Any) -> Any:
        return super()._initialize_and_run_controller(**given | {"scaling_policy": Granted(self.scaling_config)})


class OwnDevices(TorchConfig):
    """Leaves it to each process which device it takes: Train would have all of them take the first."""

    @property
    def train_func_context(self) -> Any:
        return nullcontext


@dataclass(frozen=True)
class Said:
    """What the processes say, which the queue's own process passes on unread: it would import torch to read it."""

    queue: Queue

    def put(self, content: Any) -> None:
        self.queue.put(pickle.dumps(content))

    def get(self, timeout: float) -> Any:
        """Raises queue.Empty."""
        return pickle.loads(self.queue.get(timeout=timeout))


@dataclass
class Trained:
    """The run of a trainer, in a thread."""

    trainer: Trainer
    count: int
    said: Said
    thread: Thread = field(init=False)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.thread = Thread(target=self._fit, daemon=True)
        self.thread.start()

    def _fit(self) -> None:
        try:
            self.trainer.fit()
        except Exception as error:
            self.error = error

    def running(self) -> bool:
        return self.thread.is_alive()

    def lost(self) -> str | None:
        if isinstance(self.error, WorkerGroupError):
            rank, error = min(self.error.worker_failures.items())
            died = getattr(error, "health_check_failure", error)  # what is known of one that answers no more
            return f"process {rank} of {self.count} ended: {_line(died)}"
        return f"Ray Train failed: {_line(self.error)}" if self.error else None


def _line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def with_train(output: Path, part: Callable[[Any], None], count: int, gpus: bool) -> Iterator[Trained]:
    """A `Start` of `workers.training.launch`. output: file for what the processes print."""
    node = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    said = Said(Queue(actor_options={"num_cpus": 0, "label_selector": node}))
    with tempfile.TemporaryDirectory() as folder:
        line = f"{folder}/line"
        os.mkfifo(line)
        held = os.open(line, os.O_RDWR)
        trainer = Trainer(
            lambda: _take_part(line, output, part, said),
            torch_config=OwnDevices(backend="nccl" if gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=count,
                resources_per_worker={f"node:{ray.util.get_node_ip_address()}": SHARE},
                label_selector=node,
            ),
            run_config=RunConfig(
                name="train",
                storage_path=folder,
                failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
                worker_runtime_env={"env_vars": _devices()},
            ),
        )
        trained = Trained(trainer, count, said)
        try:
            yield trained
        finally:
            os.close(held)
            trained.thread.join(ENDING_SECONDS)
            said.queue.shutdown(force=True)


def _devices() -> dict[str, str]:
    """What says which devices this process sees, for others to see the same ones."""
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "")}


def _take_part(line: str, output: Path, part: Callable[[Any], None], said: Said) -> None:
    end_with(line)
    with written_to(output):
        try:
            part(said)
        except Exception:
            traceback.print_exc()  # where `retort logs` shows it
            raise
