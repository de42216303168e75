"""Deadlines of a driver's trials: for the first sign of life, between two of them, and for an epoch. One that is missed ends the trial's
process, with the reason kept for the record; the trial then counts as lost to the infrastructure and is tried again.
"""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import psutil

from orchestrator.storage.files import PROCESS, TrialFiles
from orchestrator.storage.storage import StorageError

ABSENT_SECONDS = 10.0  # between two looks: whoever looks was away
LAXITY = 5.0  # times the longest silence, or epoch, that the trial has shown before


@dataclass(frozen=True)
class Deadlines:
    """Seconds. start: from the trial's process to its first word (it imports, loads data and networks, and may pretrain a backbone).
    silence: between two words (an evaluation says nothing), or LAXITY times the longest silence so far. epoch: the least for an epoch, or
    LAXITY times the longest so far; the first has no deadline of its own.
    """

    start: float = 1200.0
    silence: float = 900.0
    epoch: float = 1800.0

    @classmethod
    def from_environment(cls) -> "Deadlines":
        """RETORT_DEADLINE_START, _SILENCE and _EPOCH, in seconds."""
        names = [each.name for each in fields(cls)]
        return cls(*(float(os.environ.get(f"RETORT_DEADLINE_{name.upper()}", getattr(cls, name))) for name in names))


@dataclass
class _Life:
    folder: Path
    started: float
    last: float | None = None  # word
    epoch_began: float | None = None
    longest_silence: float = 0.0
    longest_epoch: float = 0.0
    missed: str | None = None  # which deadline, once its process has been ended for it


@dataclass
class Watch:
    """The trials that run, each with its signs of life. `end`: ends the process that works in a folder; `clock`: seconds, monotonic."""

    end: Callable[[Path], None]
    deadlines: Deadlines = field(default_factory=Deadlines.from_environment)
    clock: Callable[[], float] = time.monotonic
    _lives: dict[str, _Life] = field(default_factory=dict)
    _looked: float | None = None  # last

    def started(self, trial: str, folder: Path) -> None:
        """Its process is there."""
        self._lives[trial] = _Life(folder, self.clock())

    def heard(self, trial: str, epoch_ended: bool = False) -> None:
        """It said something."""
        life = self._lives.get(trial)
        if life is None:
            return
        now = self.clock()
        if life.last is not None:
            life.longest_silence = max(life.longest_silence, now - life.last)
        if epoch_ended and life.epoch_began is not None:
            life.longest_epoch = max(life.longest_epoch, now - life.epoch_began)
        if epoch_ended or life.epoch_began is None:
            life.epoch_began = now
        life.last = now

    def over(self, trial: str) -> str | None:
        """It has ended: why, where it ended for a deadline."""
        life = self._lives.pop(trial, None)
        return life.missed if life else None

    def look(self) -> None:
        """Ends the processes of trials that have missed a deadline. To be called every few seconds: it counts only time in which it was."""
        self._count_no_absence()
        for life in self._lives.values():
            missed = None if life.missed else self._missed(life)
            if missed:
                life.missed = missed
                print(f"{life.folder.name}: {missed}; ending its process", file=sys.stderr, flush=True)
                self.end(life.folder)

    def _count_no_absence(self) -> None:
        """While this process stood still, or waited for its database, it heard nobody: that is no trial's silence."""
        now = self.clock()
        away = now - (now if self._looked is None else self._looked)
        self._looked = now
        if away > ABSENT_SECONDS:
            for life in self._lives.values():
                life.started += away
                life.last = None if life.last is None else min(now, life.last + away)
                life.epoch_began = None if life.epoch_began is None else min(now, life.epoch_began + away)

    def _missed(self, life: _Life) -> str | None:
        now = self.clock()
        if life.last is None:
            return self._told("no word since its process was started", now - life.started, self.deadlines.start)
        silence = self._told("no sign of life", now - life.last, max(self.deadlines.silence, LAXITY * life.longest_silence))
        if silence or not life.longest_epoch or life.epoch_began is None:
            return silence
        return self._told("an epoch without an end", now - life.epoch_began, max(self.deadlines.epoch, LAXITY * life.longest_epoch))

    @staticmethod
    def _told(what: str, seconds: float, deadline: float) -> str | None:
        return f"{what} for {seconds:.0f} s (its deadline is {deadline:.0f} s)" if seconds > deadline else None


def leave_process(folder: Path, node: str) -> None:
    """Notes in a trial's folder which process works there. node: Ray's id of the machine."""
    me = psutil.Process()
    noted = {"pid": me.pid, "created": me.create_time(), "host": socket.gethostname(), "node": node}
    (folder / PROCESS).write_text(json.dumps(noted))


def node_of(folder: Path, files: TrialFiles) -> str | None:
    """Ray's id of the machine on which a process works in a trial's folder; None where none has noted itself."""
    noted = _noted(folder, files)
    return str(noted["node"]) if noted else None


def end_process(folder: Path, files: TrialFiles) -> None:
    """Kills the process that works in a trial's folder, wherever that is; nothing where none has noted itself."""
    noted = _noted(folder, files)
    if noted is None:
        return
    if noted["host"] == socket.gethostname():
        _kill(noted["pid"], noted["created"])
        return
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(noted["node"], soft=False)
    ray.remote(num_cpus=0)(_kill).options(scheduling_strategy=there).remote(noted["pid"], noted["created"])


def _noted(folder: Path, files: TrialFiles) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(files.note(folder.name, PROCESS))
    except (OSError, ValueError, StorageError):
        return None
    return found


def _kill(pid: int, created: float) -> None:
    """Kills a process of this machine with those it has started (loaders that stand still would outlive it), unless another has its number
    by now."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.create_time() != created:
            return
        for each in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
