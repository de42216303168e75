"""The heartbeat of a driver: a thread renews its leases, and says that it lives, only while the main loop comes round."""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

BEAT_SECONDS = 5.0
ROUND_SECONDS = 240.0  # the longest round of the loop: a write may wait for a locked database for most of it
DRIVER_SECONDS = float(os.environ.get("RETORT_DEADLINE_DRIVER", "240"))  # a driver that is silent for so long is replaced
PREPARATION_SECONDS = 6 * 3600.0  # the longest making or checking of a dataset, which has no rounds


class Beating(Protocol):
    """What a heartbeat is told to."""

    def keep_leases(self, study_id: int, attempt: int) -> None: ...
    def driver_lives(self, study_id: int, attempt: int) -> None: ...


class Pulse:
    """`beat()` says that the loop came round; the next time is expected within so many seconds. `clock`: seconds, monotonic."""

    def __init__(self, store: Beating, study_id: int, attempt: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._study_id, self._attempt, self._clock = store, study_id, attempt, clock
        self._until = 0.0
        self.beat(PREPARATION_SECONDS)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune writes its arguments down for a restore; ours is the database

    def start(self) -> None:
        """Beats in a thread of its own as long as this process is there."""
        threading.Thread(target=self._run, daemon=True).start()

    def beat(self, seconds: float = ROUND_SECONDS) -> None:
        """The main loop came round."""
        self._until = self._clock() + seconds

    def pass_on(self) -> bool:
        """Renews the leases if the main loop is on its way; else gives them up to whoever wants them."""
        if self._clock() > self._until:
            return False
        self._store.keep_leases(self._study_id, self._attempt)  # raises where the attempt is over: it then has no sign of life to give
        self._store.driver_lives(self._study_id, self._attempt)
        return True

    def _run(self) -> None:
        while True:
            try:
                if not self.pass_on():
                    print("heartbeat: the main loop stands still", file=sys.stderr, flush=True)
            except Exception as error:
                print(f"heartbeat: {error}", file=sys.stderr, flush=True)
            time.sleep(BEAT_SECONDS)
