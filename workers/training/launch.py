"""Starts the processes that train one trial together, on the machine that the trial was given, and hears what they say.

They meet at a file, speak by gloo on CPUs and by NCCL on GPUs, and die together: one that fails ends the others, and none outlives the
process that has started them.
"""

from __future__ import annotations

import os
import queue
import signal
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

from studies.trial import TrialFailure, TrialSpec
from workers.training.progress import EpochReport, Left, StepReport
from workers.training.result import TrialResult, finished

SILENCE = timedelta(minutes=30)  # how long a process waits for the others before it gives up
LOOK_SECONDS = 0.5
START = "spawn"  # how they are started: what a process knows of its GPUs is no use to one that was forked from it


def run_processes(
    spec: TrialSpec,
    folder: Path,
    data: Path,
    report: Callable[[EpochReport], None],
    report_step: Callable[[StepReport], None] = lambda step: None,
    profile: Path | None = None,
) -> TrialResult:
    """`run_trial` by as many processes as the trial has, on their shares of its batches; a profile is that of the first one.

    Raises TrialFailure and Left.
    """
    images = int(spec.full_schedule.images_at_once)
    if images % spec.processes:
        told = f"schedule.batch_size: {images} images at once are no equal shares of {spec.processes} processes; choose a multiple"
        raise TrialFailure("user", told)
    start: Any = multiprocessing.get_context(START)
    said: Any = start.Queue()
    with tempfile.TemporaryDirectory() as meeting:
        given = (spec.model_dump_json(), str(folder), str(data), profile, f"{meeting}/group", said)
        processes = [start.Process(target=_member, args=(rank, *given), daemon=False) for rank in range(spec.processes)]
        for process in processes:
            process.start()
        try:
            _listen(processes, said, report, report_step)
        finally:
            for process in processes:
                process.kill()
                process.join()
    result = finished(folder)
    if result is None:
        raise TrialFailure("infra", "the processes of the trial ended and left no result")
    return result


def _listen(processes: list[Any], said: Any, report: Callable[[EpochReport], None], report_step: Callable[[StepReport], None]) -> None:
    """Passes on what is said until all have ended. Raises the first TrialFailure, or Left."""
    while True:
        running = any(process.is_alive() for process in processes)
        try:
            kind, content = said.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            lost = [(rank, process.exitcode) for rank, process in enumerate(processes) if process.exitcode]
            if lost:
                raise TrialFailure("infra", f"process {lost[0][0]} of {len(processes)} ended with status {lost[0][1]}") from None
            if not running:
                return
            continue
        if kind == "epoch":
            report(content)
        elif kind == "step":
            report_step(content)
        else:
            raise content


def _member(rank: int, spec: str, folder: str, data: str, profile: Path | None, meeting: str, said: Any) -> None:
    """One of the processes."""
    _die_with_parent()
    from workers.training.trial import run_trial

    trial = TrialSpec.model_validate_json(spec)
    if trial.gpus:
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        torch.cuda.set_device(rank)
    backend = "nccl" if trial.gpus else "gloo"
    distributed.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=trial.processes, timeout=SILENCE)
    try:
        run_trial(
            trial,
            Path(folder),
            Path(data),
            lambda epoch: said.put(("epoch", epoch)),
            lambda step: said.put(("step", step)),
            profile=None if rank else profile,
        )
    except (TrialFailure, Left) as ended:
        said.put(("ended", ended))
        said.close()
        said.join_thread()  # it is heard before the others, which miss this process now, say what they died of
        raise SystemExit(1) from ended
    finally:
        distributed.destroy_process_group()


def _die_with_parent() -> None:
    """From here on this process is killed when its parent ends, however that ends and also where this one stands still: it would train on
    in a folder that the trial's next attempt has. Linux alone knows such a thing."""
    multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined]
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():
        raise SystemExit("its parent has ended already")
