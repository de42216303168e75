"""A driver that is loaded before there is a study for it: starting a job of Ray and importing Tune is most of the time to a first trial.

One such job waits in the cluster. A study's next attempt is given to it by its submission id alone, which it looks for in the database.
"""

import time
import uuid
from collections.abc import Callable, Container

from orchestrator.cluster.ray_api import RayAnswer, RayCluster, RayUnreachable
from orchestrator.records.patience import patiently
from orchestrator.records.store import Store

PREFIX = "standby-"
READY = "waits for a study"  # what its log says then
TAKE_SECONDS = 0.2  # between its looks for an attempt
ANSWER_SECONDS = 10.0  # an attempt that is given to it and not taken up by then gets a driver of its own
REST_SECONDS = 10.0  # after the stack's start, or after one was given away: others load then
RETRY_SECONDS = 60.0  # after one that was lost
LOOK_SECONDS = 1.0  # between two looks whether it is ready
CHECK_SECONDS = 10.0  # and whether it is still there


def await_attempt(store: Store, submission: str) -> tuple[int, int]:
    """In the process that waits: the study and the number of the attempt that it is given."""
    print(READY, flush=True)
    while (found := patiently(store.patience, lambda: store.attempt_of(submission))) is None:
        time.sleep(TAKE_SECONDS)
    return found


class Standby:
    """The job that waits, as the loop sees it that submits it. `start`: submits a driver under this id."""

    def __init__(self, ray: RayCluster, start: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._ray, self._start, self._clock = ray, start, clock
        self._submission: str | None = None
        self._ready = False
        self._tidy = False  # whether those of an earlier loop are gone
        self._due = clock() + REST_SECONDS

    @property
    def ready(self) -> str | None:
        """Its submission id, once it waits."""
        return self._submission if self._ready else None

    def given(self) -> None:
        """It has an attempt now; another one is started when that one's first trials have."""
        self._submission, self._ready, self._due = None, False, self._clock() + REST_SECONDS

    def keep(self, driving: Container[str]) -> None:
        """Sees to it that there is one. driving: submission ids of live attempts. Ray away, or refusing, is the trouble of those who
        need it."""
        if self._clock() < self._due:
            return
        try:
            self._step(driving)
        except (RayUnreachable, RayAnswer):
            self._due = self._clock() + REST_SECONDS

    def _step(self, driving: Container[str]) -> None:
        if not self._tidy:
            for submission in self._ray.running():
                if submission.startswith(PREFIX) and submission not in driving:  # it may run other code than this
                    self._ray.stop(submission)
            self._tidy = True
        if self._submission is None:
            self._submission = f"{PREFIX}{uuid.uuid4().hex[:12]}"
            self._start(self._submission)  # Ray's answer may be lost, and the job there
        else:
            job = self._ray.job(self._submission)
            if job is None or job.ended:
                self.given()
                self._due = self._clock() + RETRY_SECONDS
                return
            self._ready = self._ready or READY in self._ray.log(self._submission)
        self._due = self._clock() + (CHECK_SECONDS if self._ready else LOOK_SECONDS)
