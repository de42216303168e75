"""Removes garbage by the policy, a little at a time: a loop of the service."""

import logging
import time
from collections.abc import Iterator

from orchestrator.garbage.garbage import Found, Garbage

log = logging.getLogger(__name__)
LOOK_SECONDS = 3600.0  # from one look at everything to the next
TURN_SECONDS = 1.0  # of a round, so that the loop goes on saying that it lives


class Collector:
    """Looks once an hour for what may go, and removes it in short turns."""

    name = "gc"
    interval = 5.0
    listens = False

    def __init__(self, garbage: Garbage) -> None:
        self.garbage = garbage
        self._found: Iterator[Found] = iter(())
        self._next_look = 0.0

    def step(self) -> None:
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECONDS
            self.garbage.empty()
            self._found = self.garbage.find()
        until = time.monotonic() + TURN_SECONDS
        while time.monotonic() < until and (found := next(self._found, None)):
            removed = self.garbage.remove(found)
            if removed:
                log.info("removed %s %s: %s bytes, %s rows", removed.kind, removed.name, removed.bytes, removed.rows)
