"""A study as its driver sees it: which trial is next, and what became of each. Knows no Ray; writes through to the store.

It holds no trials but those it has handed out and a few that are ready next; how many are open it knows by the study's counts.
"""

import contextlib
import functools
import time
from collections import deque
from typing import Any

from sqlalchemy.exc import InterfaceError, OperationalError

from orchestrator.driving.order import Order
from orchestrator.driving.source import source_of_code
from orchestrator.machine import OPEN
from orchestrator.plan import measurement_from, planned_from, teacher_ref
from orchestrator.records.errors import LeaseLost
from orchestrator.records.leases import Claim
from orchestrator.records.schema import Trial
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from studies.code import code_version
from studies.measurement import MeasurementSpec, measurement_code
from studies.spec import Schedule
from studies.trial import FailureKind, Setting, TeacherRef, TrialSpec

ASK_AGAIN_SECONDS = 1.0  # how often a trial that another study trains is asked for
SIGN_SECONDS = 5.0  # between two signs of life of a trial that are stored
ASKED_AT_ONCE = 64  # of those, before Tune has its turn; the next call goes on behind them


class Graph:
    """The study as its driver sees it: which trial is next, and what became of each. Writes through to the store."""

    def __init__(self, store: Store, study_id: int, attempt: int, setting: Setting, digest: str, settings: Settings) -> None:
        self.store, self.study_id, self.attempt = store, study_id, attempt
        self.setting, self.digest, self.settings = setting, digest, settings
        self.arms = {arm.id: arm for arm in store.arms(study_id)}
        self.claimed: dict[str, int] = {}  # handed to Tune, end not seen yet -> number of its lease
        self.ask_again: dict[str, float] = {}  # trials another study trains -> when to look again
        self.signs: dict[str, float] = {}  # trial -> when its last sign of life inside an epoch was stored
        self.source = source_of_code()
        self.code_version = functools.cache(code_version)  # as it was when this driver began: its processes keep what they imported
        self.measurement_code = functools.cache(measurement_code)
        self.first: Order | None = None  # claimed by `settle`, handed out first
        self.open = 0  # trials without an end
        self._ready: deque[Trial] = deque()  # next to be claimed
        self._done: dict[str, TeacherRef] = {}  # trials whose checkpoints others have asked for
        self.refresh()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune writes its arguments down for a restore; ours is the database

    def refresh(self) -> None:
        """Counts anew; trials that are ready now are found when those known before are claimed."""
        counts = self.store.counts(self.study_id)
        self.open = sum(counts[state] for state in OPEN)

    @property
    def ended(self) -> bool:
        return not self.open

    @property
    def waiting(self) -> bool:
        """Whether a trial has no end yet and is not handed out either."""
        return self.open > len(self.claimed)

    def settle(self) -> bool:
        """Takes over what equal trials have done; False when that leaves something to train."""
        self.first = self.first or self.next()
        return self.ended

    def next(self) -> Order | None:
        """The next trial to train; None while there is none: all are running, waiting, or being trained by another study."""
        if self.first:
            order, self.first = self.first, None
            return order
        asked = 0
        while asked < ASKED_AT_ONCE and (trial := self._candidate()):
            claimed = self._claim(trial)
            if claimed:
                return claimed
            asked += trial.name in self.ask_again
        return None

    def _candidate(self) -> Trial | None:
        """The first ready trial that is neither handed out nor being trained by somebody else."""
        if not self._ready:
            now = time.monotonic()
            asleep = [name for name, again in self.ask_again.items() if again > now]
            self._ready.extend(self.store.ready_trials(self.study_id, [*self.claimed, *asleep]))
        return self._ready.popleft() if self._ready else None

    def _claim(self, trial: Trial) -> Order | None:
        name = trial.name
        try:
            spec = self._resolve(trial)
            code = self._code_of(spec)
            key = spec.key(self.digest, code)
        except ValueError as error:
            self._fail(name, "user", str(error), None)
            return None
        folder = f"{key}-forced-{trial.id}" if self.setting.force else key
        environment = {**self.source, "code_version": code}
        if isinstance(spec, TrialSpec):
            environment["training_code"] = self.code_version(())
        claimed = self.store.claim(
            self.study_id, self.attempt, name, spec, key, folder, self.digest, environment, reuse=not self.setting.force
        )
        self.ask_again.pop(name, None)
        if claimed.claim == Claim.BUSY:
            self.ask_again[name] = time.monotonic() + ASK_AGAIN_SECONDS
            return None
        if claimed.fence is None:
            self.refresh()
            return None
        self.claimed[name] = claimed.fence
        job = "training" if isinstance(spec, TrialSpec) else "measurement"
        data, trials = str(self.settings.data), self.settings.trials
        return Order(name, spec.model_dump(mode="json"), str(trials / folder), data, job, claimed.fence)

    def _resolve(self, trial: Trial) -> TrialSpec | MeasurementSpec:
        """What it trains or measures. Raises ValueError where the catalogue no longer has what it names."""
        teacher = self._results_of(trial.teacher) if trial.teacher else None
        arm = self.arms[trial.arm_id]
        if trial.measurement is None:
            return planned_from(trial, arm).resolve(self.setting, teacher)
        planned = measurement_from(trial, arm)
        schedule = Schedule.model_validate(arm.detail["schedule"])
        return planned.resolve(self.setting, self._results_of(planned.detector), teacher, schedule)

    def _results_of(self, name: str) -> TeacherRef:
        if name not in self._done:
            trial = self.store.trial(self.study_id, name)
            assert trial  # a foreign key
            self._done[name] = teacher_ref(trial)
        return self._done[name]

    def _code_of(self, spec: TrialSpec | MeasurementSpec) -> str:
        if isinstance(spec, TrialSpec):
            return self.code_version(spec.methods)
        return self.measurement_code(spec.kind, tuple(sorted(use.id for use in spec.distillers)))

    # --- what became of those handed out

    def started(self, name: str) -> None:
        self._tell(name, lambda fence: self.store.start_trial(self.study_id, self.attempt, name, fence))

    def reported(self, name: str, result: dict[str, Any]) -> None:
        """A sign of life inside an epoch, an epoch, the result, or the failure that `trainable.train` reports."""
        if "step" in result:
            self._sign(name, result)
        elif "epoch" in result:
            self._tell(name, functools.partial(self._epoch, name, result))
        elif "result" in result:
            self._tell(name, functools.partial(self._finish, name, result["result"]))
        elif "failure" in result:
            self.failed(name, result["failure"], result["reason"])

    def lost(self, name: str, reason: str) -> None:
        """The trial's process died, or raised what is no TrialFailure."""
        self.failed(name, "infra", reason)

    def failed(self, name: str, failure: FailureKind, reason: str) -> None:
        self._tell(name, functools.partial(self._fail, name, failure, reason))

    def _tell(self, name: str, record: Any) -> None:
        """Records something of a trial that is handed out. One that was taken over by another study is ready again: that study's results
        may serve."""
        fence = self.claimed.get(name)
        if fence is None:
            return
        try:
            record(fence)
        except LeaseLost:
            self.store.lose_lease(self.study_id, self.attempt, name)
            self._ready.clear()
            self._over(name)
            self.ask_again[name] = time.monotonic() + ASK_AGAIN_SECONDS

    def _sign(self, name: str, result: dict[str, Any]) -> None:
        """Stores a sign of life, one in SIGN_SECONDS, where the database takes it at once: nothing waits for it."""
        if time.monotonic() - self.signs.get(name, -SIGN_SECONDS) < SIGN_SECONDS:
            return
        sign = {field: result[field] for field in ("epoch", "epochs", "step", "steps", "metrics")}
        with contextlib.suppress(OperationalError, InterfaceError):
            self._tell(name, lambda fence: self.store.record_sign(self.study_id, self.attempt, name, sign, fence))
            self.signs[name] = time.monotonic()

    def _epoch(self, name: str, result: dict[str, Any], fence: int) -> None:
        self.store.record_epoch(self.study_id, self.attempt, name, result["epoch"], result["epochs"], result["metrics"], fence)

    def _finish(self, name: str, result: dict[str, Any], fence: int) -> None:
        self.store.finish_trial(self.study_id, self.attempt, name, fence=fence, **result)
        self._over(name)

    def _fail(self, name: str, failure: FailureKind, reason: str, fence: int | None) -> None:
        self.store.fail_trial(self.study_id, self.attempt, name, failure, reason, fence)
        self._ready.clear()  # it may be ready again, and comes before them
        self._over(name)

    def _over(self, name: str) -> None:
        self.claimed.pop(name, None)
        self.signs.pop(name, None)
        self.refresh()
