"""Locks between commands: one acts on a home at a time, and one chooses ports at a time."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def home_lock(home: Path, wait: bool = True) -> Iterator[bool]:
    """One `up`, `down` or watchdog's round at a time for a home; False where another is at it and `wait` is not wanted."""
    with (home / "run" / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


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
