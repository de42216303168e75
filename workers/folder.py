"""The right to write into a trial's folder: one process at a time, and none whose lease is older than the last one seen there."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from studies.trial import TrialFailure


@contextmanager
def alone_in(folder: Path, fence: int | None = None) -> Iterator[None]:
    """Holds the folder's lock: the process of a lost attempt may outlive its driver by a moment and must be gone first.

    fence: number of the lease that the folder is to be written under; None for a trial that has none. Raises TrialFailure("infra") where a
    greater one was here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if fence is not None:
            _pass(folder / "fence", fence)
        yield


def _pass(last: Path, fence: int) -> None:
    seen = int(last.read_text() or 0) if last.exists() else 0
    if fence < seen:
        raise TrialFailure("infra", f"its lease {fence} is over, another trial has had {last.parent.name} since (lease {seen})")
    last.write_text(str(fence))
