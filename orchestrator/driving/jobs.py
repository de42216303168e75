"""Keeps every unfinished study in the hands of exactly one Ray Job: submits, watches, stops and replaces drivers."""

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from orchestrator.cluster.ray_api import Job, RayAnswer, RayCluster, RayUnreachable
from orchestrator.driving.pulse import DRIVER_SECONDS
from orchestrator.driving.standby import ANSWER_SECONDS, PREFIX, Standby
from orchestrator.machine import IllegalMove, StudyState
from orchestrator.records.queries import Queued
from orchestrator.records.schema import Attempt, Study
from orchestrator.records.store import Store
from orchestrator.settings import Settings

log = logging.getLogger(__name__)
LONGEST_REST = 60  # seconds between two attempts
STOP_WAIT_SECONDS = float(os.environ.get("RETORT_DEADLINE_STOP", "60"))  # a driver has so long to stop in good order
SURE_SECONDS = 15.0  # three heartbeats
WRITE_SECONDS = 5.0  # between two looks whether the database can be written
STARTING_SECONDS = 720.0  # a driver that has not come up after so long is replaced
LOOKING_DRIVERS = 2  # at once, of studies without devices


class Jobs:
    """Reconciles studies with Ray Jobs. Killed at any line, it finds its way from the database and from Ray."""

    name = "jobs"
    interval = 0.5
    listens = True

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds, monotonic."""
        self.store, self.settings, self._ray = store, settings, RayCluster(settings.ray_jobs)
        self._notified: set[int] = set()  # studies whose watchers know that Ray is away
        self._clock = clock
        self._heard: dict[str, tuple[int, float]] = {}  # submission -> its driver's last word, and when that was first seen here
        self._wrote = -WRITE_SECONDS  # when it was last seen that the database can be written
        self._stopping: dict[str, float] = {}  # submission -> when it was last asked to stop
        self._standby = Standby(self._ray, self._start, clock)

    def step(self) -> None:
        self._try_writing()
        driven = self.store.driven_studies()
        driven += self._opened({study.id for study, _ in driven})
        troubles = []
        for study, attempt in driven:
            try:
                self._watch(study, attempt)
            except (RayAnswer, IllegalMove) as trouble:  # about this study alone; the others go on
                troubles.append(f"study {study.id}: {trouble}")
            except RayUnreachable:
                self._away([study.id for study, _ in driven])
                raise
        for study_id in self._notified:
            self.store.note(study_id, "Ray is back")
        self._notified.clear()
        self._standby.keep({attempt.submission for _, attempt in driven})
        if troubles:
            raise RuntimeError("; ".join(troubles))

    def _try_writing(self) -> None:
        """Drivers can say no more than the database takes: while it is locked or away, nobody's silence counts."""
        began = self._clock()
        if began - self._wrote < WRITE_SECONDS:
            return
        try:
            self.store.try_writing()
        except SQLAlchemyError:
            self._heard.clear()
            raise
        self._wrote = self._clock()
        if self._wrote - began > 1.0:
            self._heard.clear()

    def _away(self, study_ids: list[int]) -> None:
        """Tells the studies' watchers once."""
        for study_id in set(study_ids) - self._notified:
            self.store.note(study_id, f"Ray cannot be reached at {self.settings.ray_jobs}; trying again")
            self._notified.add(study_id)

    def _opened(self, driven: set[int]) -> list[tuple[Study, Attempt]]:
        """New attempts: of studies that have devices, and a few at a time of those that may need none, as equals have done their trials."""
        rested = [study for study in self.store.queued_studies() if self._rested(study)]
        looking = len(driven - self.store.studies_with_devices())
        granted = [study for study in rested if study.granted]
        looks = [study for study in rested if study.looks and not study.granted]
        attempts = [self._open(study.study_id) for study in (*granted, *looks[: max(0, LOOKING_DRIVERS - looking)])]
        return [(self.store.study(attempt.study_id), attempt) for attempt in attempts if attempt]

    def _open(self, study_id: int) -> Attempt | None:
        """The next attempt, given to the driver that waits where there is one."""
        attempt = self.store.new_attempt(study_id, self._standby.ready)
        if attempt:
            log.info("opened", extra={"study": study_id, "attempt": attempt.number})
            if attempt.submission == self._standby.ready:
                self._standby.given()
        return attempt

    def _rested(self, study: Queued) -> bool:
        """Attempts that keep getting lost are tried at growing intervals: at once, then after 2, 4, 8, ... LONGEST_REST seconds. So a study
        outlives a few minutes in which no driver can come up, and one that ends Ray itself leaves the others their time."""
        rest = min(2 ** (study.stalls - 1), LONGEST_REST) if study.stalls > 1 else 0
        return abs(self.store.now() - (study.ended or 0)) >= 1000 * rest

    def _watch(self, study: Study, attempt: Attempt) -> None:
        job = self._ray.job(attempt.submission)
        if study.state == StudyState.QUEUED and attempt.submission.startswith(PREFIX):
            silent = self._silence(attempt, attempt.created) > ANSWER_SECONDS
            if job is None or job.ended or silent:  # no loss of the study's
                self._end(attempt, "the driver that waited did not answer", planned=True)
            if silent:
                self._stop(attempt.submission)
        elif job is None:
            # Opened, but Ray does not know it: never submitted, or Ray's head has died with it and all its processes.
            if study.state == StudyState.QUEUED:
                self._submit(attempt)
            else:
                self._end(attempt, "Ray no longer knows it")
        elif job.ended:
            self._end(attempt, _outcome(job))
        elif study.state == StudyState.CANCELLING:
            self._stop(attempt.submission)
        elif overdue := self._overdue(attempt):
            self._end(attempt, overdue)
            self._stop(attempt.submission)  # should it wake up before, it finds that its attempt is over

    def _end(self, attempt: Attempt, outcome: str, planned: bool = False) -> None:
        self.store.end_attempt(attempt.study_id, attempt.number, outcome, planned)
        self.store.forget_driver(attempt.study_id, attempt.number)
        self._heard.pop(attempt.submission, None)

    def _overdue(self, attempt: Attempt) -> str | None:
        """What a driver that is there and does nothing is given up for."""
        seen = self.store.driver_seen(attempt.study_id, attempt.number)
        if seen is None:
            waited = self._silence(attempt, attempt.created)
            return f"its driver did not come up within {waited:.0f} s" if waited > STARTING_SECONDS else None
        silence = self._silence(attempt, seen)
        return f"its driver gave no sign of life for {silence:.0f} s" if silence > DRIVER_SECONDS else None

    def _silence(self, attempt: Attempt, since: int) -> float:
        """Seconds without a word since then (milliseconds since 1970). A computer's clock that is set ahead makes no silence, for it counts
        only once this loop itself has heard nothing for a while; one that is set back hides none."""
        now = self._clock()
        last, heard = self._heard.get(attempt.submission, (None, now))
        if last != since:
            heard = now
            self._heard[attempt.submission] = since, heard
        own = now - heard
        return max(own, (self.store.now() - since) / 1000) if own > SURE_SECONDS else own

    def _stop(self, submission: str) -> None:
        """SIGINT now, SIGKILL by Ray after STOP_WAIT_SECONDS; asked again should Ray have forgotten."""
        if time.monotonic() - self._stopping.get(submission, -1e9) > STOP_WAIT_SECONDS + 30:
            self._ray.stop(submission)
            self._stopping[submission] = time.monotonic()

    def _submit(self, attempt: Attempt) -> None:
        self._start(attempt.submission, str(attempt.study_id), str(attempt.number))

    def _start(self, submission: str, *attempt: str) -> None:
        """A driver as a job of Ray: of an attempt, or one that waits to be given one."""
        variables = {
            **self.settings.environment(),
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "RAY_JOB_STOP_SIGNAL": "SIGINT",
            "RAY_JOB_STOP_WAIT_TIME_S": str(round(STOP_WAIT_SECONDS)),
            # For the trials' processes. Tune trains every trial in a new thread, and glibc gives threads heaps of their own, whose memory a
            # warm process keeps: it grew with every trial.
            "MALLOC_ARENA_MAX": "1",
        }
        # -P: the code that runs is the one of this process, wherever Ray was started
        entrypoint = " ".join((f"exec {sys.executable} -P -m orchestrator.driving.driver", *(attempt or (submission,))))
        self._ray.submit(entrypoint, submission, variables)


def _outcome(job: Job) -> str:
    """How a job ended, in one line: the last line of its log where Ray quotes one that is not Ray's own."""
    lines = [line.strip() for line in job.message.splitlines() if line.strip()]
    said = [line.partition(", last available logs")[0] for line in lines if not line.startswith("Running entrypoint for job")]
    return f"its driver ended: {said[-1][:300]}" if said else "its driver ended"
