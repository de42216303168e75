"""The right to write into a trial's folder: one process at a time, and none whose lease is older than the last one seen there."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from studies.trial import TrialFailure

# How long the process of a lost attempt is waited for. Ray ends a driver that does not stop by itself, and its trials, after 60 s.
LOCK_SECONDS = float(os.environ.get("RETORT_DEADLINE_LOCK", "180"))


@contextmanager
def alone_in(folder: Path, fence: int | None = None) -> Iterator[None]:
    """Holds the folder's lock: the process of a lost attempt may outlive its driver by a moment and must be gone first.

    fence: number of the lease that the folder is to be written under; None for a trial that has none. Raises TrialFailure("infra") where a
    greater one was here, or another process is still here after LOCK_SECONDS.
    """
    with _taken(folder):
        if fence is not None:
            _pass(folder / "fence", fence)
        yield


@contextmanager
def _taken(folder: Path) -> Iterator[None]:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        with _opened(folder) as lock:
            _take(lock, folder.name, deadline)
            if _is(lock, folder / "lock"):
                yield
                return


def _opened(folder: Path) -> IO[str]:
    """The folder's lock file, both made where they are missing: a folder that nothing refers to may be removed in any moment."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return (folder / "lock").open("w")


def _is(lock: IO[str], path: Path) -> bool:
    """Whether the file is at this path still; who removes a folder holds its lock meanwhile."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _take(lock: IO[str], name: str, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TrialFailure("infra", f"another process still trains in {name} after {LOCK_SECONDS:.0f} s") from None
        time.sleep(0.2)


def _pass(last: Path, fence: int) -> None:
    seen = int(last.read_text() or 0) if last.exists() else 0
    if fence < seen:
        raise TrialFailure("infra", f"its lease {fence} is over, another trial has had {last.parent.name} since (lease {seen})")
    last.write_text(str(fence))
