"""The Tune trainable: one trial in a process of its own, told and asked through plain dicts. The one place that meets `workers`.

`workers` and Tune are imported inside the functions: the driver imports this module early, and must stay free of torch.
"""

import contextlib
import logging
import os
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import logs
from orchestrator.driving.deadlines import leave_process
from orchestrator.driving.trials.node import Node
from orchestrator.driving.trials.order import Order
from orchestrator.outputs import TRIAL_OUTPUT, written_to
from orchestrator.settings import Settings, settings
from orchestrator.storage.patience import patiently
from orchestrator.storage.staging import has_dataset, share_dataset, share_made, share_weights, stage_dataset, stored_weights
from orchestrator.storage.storage import Storage
from studies.measurement import MeasurementSpec
from studies.trial import TrialFailure, TrialSpec

if TYPE_CHECKING:
    from workers.training.launch import Start
    from workers.training.loop import Outcome, Told
    from workers.training.progress import EpochReport, StepReport
    from workers.training.result import TrialResult

log = logging.getLogger(__name__)
Report = Callable[[dict[str, Any]], None]


def train(config: dict[str, Any]) -> None:
    """Does the job of an order, and reports to Tune what `carry_out` tells."""
    order = Order.of(config)
    _hide_gpus(order)
    from ray import get_runtime_context, tune

    _configure_logs(order)
    node_id = get_runtime_context().get_node_id()
    if order.beside:
        carry_out_together(order, node_id, tune.report)
    else:
        came_to = carry_out(order, node_id, lambda told: tune.report({"trial": order.trial, **told}), with_train=True)
        tune.report({"trial": order.trial, **came_to})


def carry_out(order: Order, node_id: str, report: Report, with_train: bool = False) -> dict[str, Any]:
    """Trains, or measures: reports {epoch, epochs, metrics} per epoch, now and then inside one {epoch, epochs, step, steps, metrics}, and
    gives what it came to: {result}, {failure, reason}, or {left} where it was asked to make room.

    A TrialFailure is told, not raised: the driver decides what is tried again, never Tune. node_id: Ray's, of this machine. with_train: Ray
    Train starts the processes of a trial of several, not this one.
    """
    from workers.folder import alone_in
    from workers.training.progress import EpochReport, Left
    from workers.training.trial import run_trial

    def report_epoch(done: EpochReport) -> None:
        log.info("%s", _line(done))
        report({"epoch": done.epoch, "epochs": done.epochs, "metrics": done.metrics})

    node = Node.of(settings())
    folder = node.folder(order)
    try:
        with alone_in(folder, order.fence):
            leave_process(folder, node_id)
            with node.kept(folder, order.fence), written_to(folder / TRIAL_OUTPUT), _traceback_left(folder):
                log.info("%s in process %s", order.job, os.getpid())
                if order.job == "measurement":
                    return {"result": _measured(order, node)}
                spec, data = _brought(order, node)
                start = _started_by_train(folder) if with_train and spec.processes > 1 else None
                result = run_trial(spec, folder, data, report_epoch, lambda done: report(asdict(done)), start=start)
                return {"result": _stored(result, node)}
    except Left:
        return {"left": True}
    except TrialFailure as failed:
        return {"failure": failed.kind, "reason": failed.sentence}


def _started_by_train(folder: Path) -> "Start":
    from orchestrator.driving.trials.ray_train import with_train

    return partial(with_train, folder / TRIAL_OUTPUT)


def carry_out_together(order: Order, node_id: str, report: Report) -> None:
    """Trains the trials of a group; reports what `carry_out` reports and gives, each with the name of the `trial` that it is about."""
    from workers.training.trial import Seat, run_group

    node, seats, data = Node.of(settings()), list[Seat](), Path(order.data)
    with written_to(node.folder(order) / TRIAL_OUTPUT):
        log.info("a group of %s in process %s: %s", len(order.group), os.getpid(), ", ".join(each.trial for each in order.group))
        for each in order.group:
            member = _Member(each, node, report)
            if each is not order:
                member.say(f"trained beside {order.trial}, whose output has what their process prints")
            with member.leaving():
                with ExitStack() as stack:
                    member.enter(stack, node_id)
                    spec, data = _brought(each, node)
                    member.entered = stack.pop_all()
                seats.append(Seat(spec, node.folder(each), member.told))
        if seats:
            run_group(seats, data)


class _Member:
    """A trial of a group: its folder while it trains, and what is told of it."""

    def __init__(self, order: Order, node: Node, report: Report) -> None:
        self.order, self.node, self.folder = order, node, node.folder(order)
        self.entered = ExitStack()
        self._report = report

    @property
    def told(self) -> "Told":
        from workers.training.loop import Told

        return Told(self._epoch, self._step, self._end)

    def enter(self, stack: ExitStack, node_id: str) -> None:
        """The folder is its own until the stack is closed. Raises TrialFailure."""
        from workers.folder import alone_in

        stack.enter_context(alone_in(self.folder, self.order.fence))
        leave_process(self.folder, node_id)
        stack.enter_context(self.node.kept(self.folder, self.order.fence))

    def say(self, line: str) -> None:
        """In its own output, where people look for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError), (self.folder / TRIAL_OUTPUT).open("a") as output:
            output.write(f"{line}\n")

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Inside, what it fails by is told as its end."""
        try:
            yield
        except TrialFailure as failed:
            self._tell({"failure": failed.kind, "reason": failed.sentence})

    def _tell(self, told: dict[str, Any]) -> None:
        self._report({"trial": self.order.trial, **told})

    def _epoch(self, done: "EpochReport") -> None:
        self.say(_line(done))
        self._tell({"epoch": done.epoch, "epochs": done.epochs, "metrics": done.metrics})

    def _step(self, done: "StepReport") -> None:
        self._tell(asdict(done))

    def _end(self, outcome: "Outcome") -> None:
        """The folder is let go, where there is a store with all that is in it, before the end is told."""
        from workers.training.progress import Left

        with self.leaving():
            if isinstance(outcome, TrialFailure):
                with contextlib.suppress(OSError):
                    (self.folder / "error.txt").write_text("".join(traceback.format_exception(outcome)))
                self.say(str(outcome))
            error = outcome if isinstance(outcome, Exception) else None
            self.entered.__exit__(type(error) if error else None, error, None)
            if isinstance(outcome, TrialFailure):
                raise outcome
            self._tell({"left": True} if isinstance(outcome, Left) else {"result": _stored(outcome, self.node)})


def _line(done: "EpochReport") -> str:
    return f"epoch {done.epoch}/{done.epochs} " + " ".join(f"{name}={value:.4g}" for name, value in done.metrics.items())


def _brought(order: Order, node: Node) -> tuple[TrialSpec, Path]:
    """What is to be trained, with files of this node, and where its data are. Raises TrialFailure, StorageError."""
    spec, data = TrialSpec.model_validate(node.localised(order.spec)), _data(order, node)
    if node.cache:
        _bring_weights(spec, data, node)
    return spec, data


def _stored(result: "TrialResult", node: Node) -> dict[str, Any]:
    """The result of a training, as `Store.finish_trial` takes it."""
    return {
        "metrics": result.metrics,
        "checkpoint": node.reference(result.checkpoint),
        "checkpoint_sha256": result.checkpoint_sha256,
        "best_checkpoint": node.reference(result.best_checkpoint),
        "seconds": result.seconds,
        "environment": result.environment,
    }


def _measured(order: Order, node: Node) -> dict[str, Any]:
    """The result of a measurement, likewise: its document stands where a training has its checkpoint."""
    from workers.measuring.run import run_measurement

    spec = MeasurementSpec.model_validate(node.localised(order.spec))
    result = run_measurement(spec, node.folder(order), _data(order, node))
    return {
        "metrics": result.metrics,
        "checkpoint": node.reference(result.document),
        "checkpoint_sha256": result.files[result.document.name],
        "best_checkpoint": None,
        "seconds": result.seconds,
        "environment": result.environment,
    }


def _hide_gpus(order: Order) -> None:
    """Takes the GPUs out of sight of a trial that uses none: Ray leaves them visible to those that asked for none.

    To be called before anything has asked torch for CUDA. A process serves trials of one study, so of one kind.
    """
    if not order.spec.get("gpus"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _data(order: Order, node: Node) -> Path:
    """The folder of the datasets, with the one that the order needs."""
    from workers.datasets.archive import unpack

    if node.cache is None:
        return Path(order.data)
    data = node.data(order.dataset_digest)
    stage_dataset(node.cache.storage, order.dataset_digest, data / str(order.spec["dataset"]), unpack)
    return data


def _bring_weights(spec: TrialSpec, data: Path, node: Node) -> None:
    """What the network starts from, where the store or this node has it; what nobody has yet is pretrained here and shared."""
    from workers.process import quiet
    from workers.training.networks import pretraining_of, start_weights
    from workers.weights.pretraining import pretrained, pretrained_file
    from workers.weights.store import store_beside

    assert node.cache
    if pretraining := pretraining_of(spec):
        with quiet():
            share_made(
                node.cache.storage,
                pretrained_file(spec.network, pretraining, data),
                lambda: pretrained(spec.network, pretraining, data),
            )
    name, weights = start_weights(spec), store_beside(data)
    if name and name not in weights.entries() and (path := stored_weights(node.cache, name)):
        weights.import_file(name, path)


def prepare_dataset(name: str, settings: Settings, known: str | None) -> str:
    """Makes or checks a dataset in this process and gives its digest; where there is a store, nodes find it there afterwards, and all
    weights that were fetched to this machine.

    known: its digest when it was prepared last; what is not on this machine, the store has then. Raises TrialFailure.
    """
    from workers.datasets import prepare
    from workers.datasets.archive import pack
    from workers.weights.store import store_beside

    if not settings.store:
        return prepare(name, settings.data)
    storage, weights = Storage(settings.store), store_beside(settings.data)
    fetched = {entry.name: weights.path(entry.name) for entry in weights.entries().values() if weights.state(entry) == "present"}

    def share() -> str:
        share_weights(storage, fetched)
        if known and not (settings.data / name).exists() and has_dataset(storage, known):
            return known
        digest = prepare(name, settings.data)
        share_dataset(storage, digest, lambda archive: pack(name, settings.data, archive), settings.cache)
        return digest

    return patiently(share)


def _configure_logs(order: Order) -> None:
    """The trial's lines say whose they are; the name of the Tune experiment tells study and attempt."""
    from ray import tune

    name = re.fullmatch(r"study-(\d+)-a(\d+)", tune.get_context().get_experiment_name() or "")
    logs.configure(trial=order.trial, **({"study": name[1], "attempt": name[2]} if name else {}))


@contextmanager
def _traceback_left(folder: Path) -> Iterator[None]:
    """For whoever looks into why: the whole story beside the checkpoints, and where `retort logs` shows it."""
    from workers.training.progress import Left

    try:
        yield
    except Left:
        raise
    except Exception:
        with contextlib.suppress(OSError):  # the disk may be what it died of
            (folder / "error.txt").write_text(traceback.format_exc())
            traceback.print_exc()
        raise
