"""The Tune trainable: one trial in a process of its own, told and asked through plain dicts. The one place that meets `workers`.

`workers` and Tune are imported inside the functions: the driver imports this module early, and must stay free of torch.
"""

import contextlib
import logging
import os
import re
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator import logs
from orchestrator.driving.deadlines import leave_process
from orchestrator.driving.order import Order
from orchestrator.outputs import TRIAL_OUTPUT, written_to
from studies.measurement import MeasurementSpec
from studies.trial import TrialFailure, TrialSpec

log = logging.getLogger(__name__)


def train(config: dict[str, Any]) -> None:
    """Does the job of an order: trains, or measures. Reports {epoch, epochs, metrics} per epoch, now and then inside one
    {epoch, epochs, step, steps, metrics}, and at the end {result}, {failure, reason}, or {left} where it was asked to make room.

    A TrialFailure is reported, not raised: the driver decides what is tried again, never Tune.
    """
    order = Order.of(config)
    _hide_gpus(order)
    from ray import get_runtime_context, tune

    from workers.folder import alone_in
    from workers.training.progress import Left

    folder = Path(order.folder)
    try:
        with alone_in(folder, order.fence), written_to(folder / TRIAL_OUTPUT):
            _configure_logs(order)
            leave_process(folder, get_runtime_context().get_node_id())
            result = _measured(order, folder) if order.job == "measurement" else _trained(order, folder)
    except Left:
        tune.report({"left": True})
        return
    except TrialFailure as failed:
        _leave_traceback(folder)
        tune.report({"failure": failed.kind, "reason": failed.sentence})
        return
    except Exception:
        _leave_traceback(folder)
        raise
    tune.report({"result": result})


def _trained(order: Order, folder: Path) -> dict[str, Any]:
    """The result of a training, as `Store.finish_trial` takes it."""
    from ray import tune

    from workers.training.progress import EpochReport, StepReport
    from workers.training.trial import run_trial

    def report(done: EpochReport) -> None:
        log.info("epoch %s/%s %s", done.epoch, done.epochs, " ".join(f"{name}={value:.4g}" for name, value in done.metrics.items()))
        tune.report({"epoch": done.epoch, "epochs": done.epochs, "metrics": done.metrics})

    def report_step(done: StepReport) -> None:
        tune.report(asdict(done))

    result = run_trial(TrialSpec.model_validate(order.spec), folder, Path(order.data), report, report_step)
    return {
        "metrics": result.metrics,
        "checkpoint": str(result.checkpoint),
        "checkpoint_sha256": result.checkpoint_sha256,
        "best_checkpoint": str(result.best_checkpoint),
        "seconds": result.seconds,
        "environment": result.environment,
    }


def _measured(order: Order, folder: Path) -> dict[str, Any]:
    """The result of a measurement, likewise: its document stands where a training has its checkpoint."""
    from workers.measuring.run import run_measurement

    result = run_measurement(MeasurementSpec.model_validate(order.spec), folder, Path(order.data))
    return {
        "metrics": result.metrics,
        "checkpoint": str(result.document),
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


def prepare_dataset(name: str, data: Path) -> str:
    """Makes or checks a dataset in this process and gives its digest. Raises TrialFailure."""
    from workers.datasets import prepare

    return prepare(name, data)


def _configure_logs(order: Order) -> None:
    """The trial's lines say whose they are; the name of the Tune experiment tells study and attempt."""
    from ray import tune

    name = re.fullmatch(r"study-(\d+)-a(\d+)", tune.get_context().get_experiment_name() or "")
    logs.configure(trial=order.trial, **({"study": name[1], "attempt": name[2]} if name else {}))
    log.info("%s in process %s", order.job, os.getpid())


def _leave_traceback(folder: Path) -> None:
    """For whoever looks into why: the whole story beside the checkpoints, and where `retort logs` shows it."""
    with contextlib.suppress(OSError):  # the disk may be what it died of
        (folder / "error.txt").write_text(traceback.format_exc())
        with (folder / TRIAL_OUTPUT).open("a") as output:
            output.write(traceback.format_exc())
