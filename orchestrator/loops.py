"""The service's loops: each comes round, does what is due, and says so; trouble makes it slower, never makes it stop."""

import logging
import threading
import time
from typing import Protocol

from orchestrator.records.store import Store

log = logging.getLogger(__name__)
BEAT_SECONDS = 5.0  # how often a loop says that it lives
SLOWEST_SECONDS = 30.0  # between tries while there is trouble


class Loop(Protocol):
    """One concern of the service. `step` does what is due and raises when something it needs is down."""

    name: str
    interval: float  # seconds between two steps

    def step(self) -> None: ...


def run(loop: Loop, store: Store, stop: threading.Event) -> None:
    """Repeats a loop until `stop`, backing off while it fails; its heartbeat carries the trouble, and how long its rounds take."""
    troubles, failed, trouble, beaten, longest = 0, 0, "", 0.0, 0.0  # failed: rounds in all; troubles: in a row
    while not stop.is_set():
        began = time.monotonic()
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
        longest = max(longest, time.monotonic() - began)
        if now != trouble or time.monotonic() - beaten > BEAT_SECONDS:
            if trouble and not now:
                log.warning("%s: all is well again", loop.name)
            trouble, beaten = now, time.monotonic()
            _beat(loop, store, trouble, longest, failed)
            longest = 0.0
        stop.wait(min(loop.interval * 2**troubles, SLOWEST_SECONDS) if troubles else loop.interval)


def _beat(loop: Loop, store: Store, trouble: str, seconds: float, troubles: int) -> None:
    try:
        store.beat(loop.name, trouble, seconds, troubles)
    except Exception as error:  # the database itself is away: nothing to write it into
        log.warning("%s: no heartbeat: %s", loop.name, error)
