"""The processes of a stack: each carries RETORT_STACK=<id> in its environment, and those of a part RETORT_PART=<name>.

Ray's agents write their titles over their environments: they are told by those titles and by the working folder that every part starts in.
"""

import contextlib
import os
import time
from collections.abc import Callable, Container
from pathlib import Path

import psutil


def processes_of(stack_id: str, run: Path) -> list[psutil.Process]:
    """The living processes of a stack with its folder `run`, this one and its parents excepted."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process for process in psutil.process_iter() if process.pid not in own and _belongs(process, stack_id, run)]


def processes_of_part(stack_id: str, run: Path, part: str, groups: Container[int]) -> list[psutil.Process]:
    """Those of one part, by their mark, or by the process groups that its earlier lives have led."""
    found = []
    for process in processes_of(stack_id, run):
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("RETORT_PART") == part or os.getpgid(process.pid) in groups:
                found.append(process)
    return found


def _belongs(process: psutil.Process, stack_id: str, run: Path) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        mark = process.environ().get("RETORT_STACK")
        if mark is not None:
            return bool(mark == stack_id)
        return "".join(process.cmdline()[:1]).startswith("ray::") and Path(process.cwd()) == run.resolve()
    return False


def kill(processes: list[psutil.Process], seconds: float = 0.0) -> bool:
    """SIGKILL to each that is still there; whether all had ended within so many seconds (the signal takes effect a moment later)."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return gone(lambda: [process for process in processes if _lives(process)], seconds)


def stands_still(process: psutil.Process) -> bool:
    """Whether it is stopped (SIGSTOP); False for one that is gone."""
    with contextlib.suppress(psutil.Error):
        return bool(process.status() == psutil.STATUS_STOPPED)
    return False


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def terminate(processes: list[psutil.Process]) -> None:
    """SIGTERM to each that is still there."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()


def gone(remaining: Callable[[], list[psutil.Process]], seconds: float) -> bool:
    """Whether nothing remains within so many seconds."""
    deadline = time.monotonic() + seconds
    while remaining():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
