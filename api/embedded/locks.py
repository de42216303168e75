"""Locks between commands: one acts on a home at a time, and one chooses ports at a time.

A watchdog that was stopped (SIGSTOP) in the middle of its round would keep its home's lock for ever: whoever wants it kills that one.
"""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import psutil

from api.embedded.processes import kill, stands_still


@contextlib.contextmanager
def home_lock(home: Path, wait: bool = True) -> Iterator[bool]:
    """One `up`, `down` or watchdog's round at a time for a home; False where another is at it and `wait` is not wanted."""
    with (home / "run" / "lock").open("a+") as file:
        while not _taken(file):
            _end_stopped_watchdog(file)
            if not wait:
                yield False
                return
            time.sleep(0.1)
        file.truncate(0)
        file.write(f"{os.getpid()}")
        file.flush()
        yield True


def _taken(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_stopped_watchdog(file: TextIO) -> None:
    """Only a watchdog, which its supervisor starts again: a command that stands still may be somebody's Ctrl-Z."""
    file.seek(0)
    with contextlib.suppress(ValueError, psutil.Error, OSError):
        holder = psutil.Process(int(file.read()))
        if stands_still(holder) and holder.environ().get("RETORT_PART", "").startswith("watchdog"):
            kill([holder])


@contextlib.contextmanager
def choosing_ports() -> Iterator[None]:
    """One stack of a user at a time takes its ports: from looking for free ones until its parts listen there."""
    try:
        file = (Path(tempfile.gettempdir()) / f"retort-{os.getuid()}.lock").open("w")
    except OSError:  # somebody else's file: then two at the same moment may meet, and one of them says so
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
