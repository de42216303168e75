"""The processes that train one trial together, on the machine that the trial was given: what each does, what is heard of them, and how they
are started where there is no Ray.

They speak by gloo on CPUs and by NCCL on GPUs, and die together: one that fails ends the others, and none outlives the process that has
started them.
"""

from __future__ import annotations

import os
import queue
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import distributed, multiprocessing

from studies.trial import TrialFailure, TrialSpec
from workers.training.progress import EpochReport, Left, StepReport
from workers.training.result import TrialResult, finished

SILENCE = timedelta(minutes=30)  # how long a process waits for the others before it gives up
LOOK_SECONDS = 0.5
START = "spawn"  # how they are started: what a process knows of its GPUs is no use to one that was forked from it


class Processes(Protocol):
    """Processes that were started."""

    @property
    def said(self) -> Any:
        """The queue of what they say."""

    def running(self) -> bool:
        """Whether any is at work."""

    def lost(self) -> str | None:
        """What one died of that has not said so itself; None where none has."""


# What each does once they have met, given the queue; how many, and with a GPU for each or without any; their work while they are there.
Part = Callable[[Any], None]
Start = Callable[[Part, int, bool], AbstractContextManager[Processes]]


def run_processes(
    spec: TrialSpec,
    folder: Path,
    data: Path,
    report: Callable[[EpochReport], None],
    report_step: Callable[[StepReport], None] = lambda step: None,
    profile: Path | None = None,
    start: Start | None = None,
) -> TrialResult:
    """`run_trial` by as many processes as the trial has, on their shares of its batches; a profile is that of the first one.

    start: what starts them, and ends those that are left; None: `spawned`. Raises TrialFailure and Left.
    """
    images = int(spec.full_schedule.images_at_once)
    if images % spec.processes:
        told = f"schedule.batch_size: {images} images at once are no equal shares of {spec.processes} processes; choose a multiple"
        raise TrialFailure("user", told)
    part = partial(take_part, spec.model_dump_json(), str(folder), str(data), profile)
    with (start or spawned)(part, spec.processes, bool(spec.gpus)) as processes:
        _listen(processes, report, report_step)
    result = finished(folder)
    if result is None:
        raise TrialFailure("infra", "the processes of the trial ended and left no result")
    return result


def _listen(processes: Processes, report: Callable[[EpochReport], None], report_step: Callable[[StepReport], None]) -> None:
    """Passes on what is said until all have ended. Raises the first TrialFailure, or Left."""
    while True:
        running = processes.running()
        try:
            kind, content = processes.said.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            if lost := processes.lost():
                raise TrialFailure("infra", lost) from None
            if not running:
                return
            continue
        if kind == "epoch":
            report(content)
        elif kind == "step":
            report_step(content)
        else:
            raise content


def take_part(spec: str, folder: str, data: str, profile: Path | None, said: Any) -> None:
    """What one of the processes does. It is heard before it ends, and so before the others, which then miss it, say what they died of."""
    from workers.training.trial import run_trial

    rank, trial = distributed.get_rank(), TrialSpec.model_validate_json(spec)
    if trial.gpus:
        torch.cuda.set_device(rank)
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
        raise SystemExit(1) from ended


@dataclass(frozen=True)
class Spawned:
    """Children of this process."""

    said: Any
    children: list[Any]

    def running(self) -> bool:
        return any(child.is_alive() for child in self.children)

    def lost(self) -> str | None:
        ended = [
            f"process {rank} of {len(self.children)} ended with status {c.exitcode}" for rank, c in enumerate(self.children) if c.exitcode
        ]
        return ended[0] if ended else None


@contextmanager
def spawned(part: Part, count: int, gpus: bool) -> Iterator[Processes]:
    """Starts them as children of this process, which meet at a file."""
    start: Any = multiprocessing.get_context(START)
    said: Any = start.Queue()
    with tempfile.TemporaryDirectory() as meeting:
        given = (count, gpus, f"{meeting}/group", part, said)
        children = [start.Process(target=_child, args=(rank, *given), daemon=False) for rank in range(count)]
        for child in children:
            child.start()
        try:
            yield Spawned(said, children)
        finally:
            for child in children:
                child.kill()
                child.join()


def _child(rank: int, count: int, gpus: bool, meeting: str, part: Part, said: Any) -> None:
    _die_with_parent()
    if gpus:
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    backend = "nccl" if gpus else "gloo"
    distributed.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=count, timeout=SILENCE)
    try:
        part(said)
    finally:
        said.close()
        said.join_thread()
        distributed.destroy_process_group()


def _die_with_parent() -> None:
    """From here on this process is killed when its parent ends, however that ends and also where this one stands still: it would train on
    in a folder that the trial's next attempt has. Linux alone knows such a thing."""
    multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined]
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():
        raise SystemExit("its parent has ended already")
