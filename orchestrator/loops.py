"""The service's loops: each comes round, does what is due, and says so; trouble makes it slower, never makes it stop."""

import contextlib
import logging
import threading
import time
from typing import Protocol

from orchestrator.records.store import Store

log = logging.getLogger(__name__)
BEAT_SECONDS = 5.0  # how often a loop says that it lives
SLOWEST_SECONDS = 30.0  # between tries while there is trouble
HEAR_SECONDS = 0.1  # between two looks of a loop that listens whether anything has happened
LISTENING_SHARE = 0.2  # of its time, at most, such a loop is at work


class Loop(Protocol):
    """One concern of the service. `step` does what is due and raises when something it needs is down."""

    name: str
    interval: float  # seconds between two steps
    listens: bool  # whether it steps sooner when a study or a trial changes its state, or devices are granted

    def step(self) -> None: ...


def run(loop: Loop, store: Store, stop: threading.Event) -> None:
    """Repeats a loop until `stop`, backing off while it fails; its heartbeat carries the trouble, and how long its rounds take."""
    troubles, failed, trouble, beaten, longest = 0, 0, "", 0.0, 0.0  # failed: rounds in all; troubles: in a row
    while not stop.is_set():
        began, heard = time.monotonic(), _last_change(store) if loop.listens else None
        try:
            loop.step()
            now = ""
            troubles = 0
        except Exception as error:
            now = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            troubles += 1
            failed += 1
            if troubles == 1:
                log.warning("%s: %s", loop.name, now, exc_info=True)
        took = time.monotonic() - began
        longest = max(longest, took)
        if now != trouble or time.monotonic() - beaten > BEAT_SECONDS:
            if trouble and not now:
                log.warning("%s: all is well again", loop.name)
            trouble, beaten = now, time.monotonic()
            _beat(loop, store, trouble, longest, failed)
            longest = 0.0
        if troubles or heard is None:
            stop.wait(min(loop.interval * 2**troubles, SLOWEST_SECONDS))
        else:
            _listen(store, heard, stop, loop.interval, took)


def _listen(store: Store, heard: tuple[int, int], stop: threading.Event, seconds: float, took: float) -> None:
    """Waits so long, or until something has happened since it was `heard` last, but then in proportion to what its last step took."""
    now = time.monotonic()
    due, soonest = now + seconds, now + took * (1 / LISTENING_SHARE - 1)
    while not stop.wait(max(0.0, min(HEAR_SECONDS, due - now))) and (now := time.monotonic()) < due:
        with contextlib.suppress(Exception):  # the database is away; the step says so
            if now >= soonest and store.changed_since(heard):
                return


def _last_change(store: Store) -> tuple[int, int] | None:
    try:
        return store.last_change()
    except Exception:  # likewise
        return None


def _beat(loop: Loop, store: Store, trouble: str, seconds: float, troubles: int) -> None:
    try:
        store.beat(loop.name, trouble, seconds, troubles)
    except Exception as error:  # the database itself is away: nothing to write it into
        log.warning("%s: no heartbeat: %s", loop.name, error)
