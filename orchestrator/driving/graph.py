"""A study as its driver sees it: which trial is next, and what became of each. Knows no Ray; writes through to the store.

What is handed out was granted devices by the broker; what equal trials have done is taken over without any.
"""

import contextlib
import functools
import shutil
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import InterfaceError, OperationalError

from orchestrator.driving.source import source_of_code
from orchestrator.driving.trials.order import Order
from orchestrator.machine import OPEN, TrialState
from orchestrator.plan import measurement_from, planned_from, teacher_ref
from orchestrator.records.errors import LeaseLost
from orchestrator.records.leases import Claim, Known
from orchestrator.records.schema import Trial
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from studies.code import code_version
from studies.measurement import MeasurementSpec, measurement_code
from studies.spec import Schedule
from studies.trial import FailureKind, Setting, TeacherRef, TrialSpec

if TYPE_CHECKING:
    from orchestrator.searching.searching import Searching

LOOK_SECONDS = 0.3  # between two looks for granted trials
NEXT_SECONDS = 0.1  # the same within a second of a trial's end, whose devices are given to the next about then
SERVED_SECONDS = 2.0  # and for trials whose equals have finished since the last look
SERVED_SLACK = 5.0  # such an end may become known so much later than its time says: it waited for the database, its clock is behind
ALL_SECONDS = 60.0  # between two looks at all trials that are ready, for what is later still
GRANT_SECONDS = 3.0  # a driver that has nothing to do waits so long for a first grant
IDLE_SECONDS = 30.0  # and one that had devices, or whose trials another study trains, so long for the next
SIGN_SECONDS = 5.0  # between two signs of life of a trial that are stored
MOMENT_SECONDS = 0.005  # after which what others have done is looked at further at the next occasion
PAGE = 12  # trials that are looked at together
MOST_BESIDE = 64  # trials that may join one on its devices


def _searching(store: Store, study_id: int, attempt: int) -> "Searching | None":
    """The search of a study, None where nothing is drawn while it runs: then neither Optuna nor Tune's schedulers are imported."""
    spec = store.study(study_id).spec
    if not (spec.get("search") or {}).get("algorithm"):
        return None
    from orchestrator.searching.searching import Searching

    return Searching.of(store, study_id, attempt, spec)


class Graph:
    """The study as its driver sees it: which trial is next, and what became of each. Writes through to the store."""

    def __init__(self, store: Store, study_id: int, attempt: int, setting: Setting, digest: str, settings: Settings) -> None:
        self.store, self.study_id, self.attempt = store, study_id, attempt
        self.setting, self.digest, self.settings = setting, digest, settings
        self.arms = {arm.id: arm for arm in store.arms(study_id)}
        self.claimed: dict[str, int] = {}  # handed to Tune, end not seen yet -> number of its lease
        self.signs: dict[str, float] = {}  # trial -> when its last sign of life inside an epoch was stored
        self.source = source_of_code()
        self.code_version = functools.cache(code_version)  # as it was when this driver began: its processes keep what they imported
        self.measurement_code = functools.cache(measurement_code)
        self.orders: deque[Order] = deque()  # claimed, and not handed out yet
        self.folders: dict[str, Path] = {}  # of those handed out
        self.open = 0  # trials without an end
        self.had_devices = False
        self.nodes_leave = False  # some have announced their end
        self.changed = time.monotonic()  # when a trial was last claimed, or came to its end
        self._full = False  # the disk, when last looked at
        self._looked = False  # at all trials that were ready when it began
        self._new = True  # there may be ready trials that it has not looked at
        self._position = -1  # of the last one that a look has come to, which goes on behind it
        self._again = False  # another look is to follow: while this one lasts some may become ready before that position
        self._numbers = (0, 0)  # of the study's trials, and of those that wait, when it last counted
        self._served_since = 0  # ends of equals are known until then, in milliseconds since 1970; 0: of none
        self._look_due = self._served_due = self._all_due = 0.0
        self._without_promise: set[str] = set()  # trials that stop with the epoch at hand
        self._asked: set[str] = set()  # trials asked to make room
        self._done: dict[str, TeacherRef] = {}  # trials whose checkpoints others have asked for
        self.searching = _searching(store, study_id, attempt)
        if self.searching:
            self._stop_without_promise(self.searching.stopped())
        self.refresh()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune writes its arguments down for a restore; ours is the database

    def refresh(self) -> None:
        """Lets the search go on, and counts anew."""
        if self.searching and self.searching.step():
            self.arms = {arm.id: arm for arm in self.store.arms(self.study_id)}
        counts = self.store.counts(self.study_id)
        self.open = sum(counts[state] for state in OPEN)
        numbers = (sum(counts.values()), counts[TrialState.WAITING])
        if numbers != self._numbers:  # its search has added some, or some wait no longer
            self._new = self._again = True
        self._numbers = numbers

    @property
    def ended(self) -> bool:
        return not self.open and (self.searching is None or self.searching.over)

    @property
    def waiting(self) -> bool:
        """Whether a trial has no end yet and is not handed out either."""
        return self.open > len(self.claimed)

    def settle(self) -> bool:
        """Takes over what equal trials have done; False when that leaves something to train."""
        order = self.next()
        while order is None and self._new:
            order = self.next()
        if order:
            self.orders.appendleft(order)
        return self.ended

    def next(self) -> Order | None:
        """The next trial to train; None while there is none: all are running, waiting for others or for devices."""
        self._take_over()
        if not self.orders and time.monotonic() >= self._look_due and self._room():
            granted = self.store.granted_trials(self.study_id, self.claimed)
            claimed = [(trial, order) for trial in granted if (order := self._claim(trial))]
            self.orders.extend(self._with_companions(trial, order) for trial, order in claimed)
            if not self.orders:
                now = time.monotonic()
                self._look_due = now + (NEXT_SECONDS if now - self.changed < 1.0 else LOOK_SECONDS)
        return self.orders.popleft() if self.orders else None

    @property
    def still(self) -> float:
        """Seconds since something last began or ended; 0 while something is at work."""
        return 0.0 if self.claimed else time.monotonic() - self.changed

    def done_for_now(self) -> bool:
        """Whether nothing is at work, and nothing was granted for so long that the driver may go: another follows with the next grant."""
        if self._full or self.still < GRANT_SECONDS:
            return False
        patient = self.had_devices or self.store.is_shared(self.study_id)
        return self.still > (IDLE_SECONDS if patient else GRANT_SECONDS)

    def leaving(self, others: Iterable[str] = ()) -> list[str]:
        """Trials at work that are to make room: those that the broker asked to, and `others`."""
        asked = {*self.store.leaving_trials(self.study_id), *others}
        found = [name for name in self.claimed if name in asked]
        self._asked.update(found)
        return found

    def _room(self) -> bool:
        """Whether the disk takes the files of another trial: one that cannot write is lost, and after a few losses failed."""
        free = shutil.disk_usage(self.settings.home).free
        if free < self.settings.least_free and not self._full:
            told = f"the disk of {self.settings.home} has {free >> 20} MB left, less than {self.settings.least_free >> 20}"
            self.store.note(self.study_id, f"{told}: no trial is started until there is room")
        self._full = free < self.settings.least_free
        return not self._full

    # --- what equals have done

    def _take_over(self) -> None:
        """Claims ready trials whose equals have finished, and those that their results make ready, and so on. Goes on at the next call
        where that takes longer than a moment: other events wait for it."""
        if time.monotonic() >= self._all_due:
            self._new, self._served_since, self._all_due = True, 0, time.monotonic() + ALL_SECONDS
        enough = time.monotonic() + MOMENT_SECONDS
        while self._new or (self._looked and time.monotonic() >= self._served_due):
            served = [*self._look(), *self._served()]
            unique = {trial.id: trial for trial in served if trial.name not in self.claimed}
            self.orders.extend(order for trial in unique.values() if (order := self._claim(trial)))  # one whose equal's files are gone
            if time.monotonic() > enough:
                break

    def _served(self) -> list[Trial]:
        """The ready trials whose equals have finished since the last look, if that is due and it is known what all are to train."""
        if not self._looked or time.monotonic() < self._served_due:
            return []
        now = self.store.now()
        found = self.store.served_trials(self.study_id, since=self._served_since or None)
        self._served_since = now - round(1000 * SERVED_SLACK)
        self._served_due = time.monotonic() + SERVED_SECONDS
        return found

    def _look(self) -> list[Trial]:
        """Writes down what some ready trials are to train, so that all may know whose equals they are: of all at first, then of new ones.
        Those of the new ones whose equals have finished."""
        if not self._new:
            return []
        page = self.store.ready_trials(self.study_id, after=self._position, limit=PAGE, known=not self._looked)
        if not page:
            self._new, self._again = self._again or not self._looked, False
            self._looked, self._position = True, -1
            return []
        self._position = page[-1].position
        known = {trial.name: found for trial in page if (found := self._known(trial))}
        self.store.know_trials(self.study_id, self.attempt, known)
        return self.store.served_trials(self.study_id, names=list(known)) if self._looked else []

    def _known(self, trial: Trial) -> Known | None:
        """What it is to train; None, and the trial has failed, where the catalogue no longer has what it names."""
        try:
            spec = self._resolve(trial)
            key = spec.key(self.digest, self._code_of(spec))
        except ValueError as error:
            self._fail(trial.name, "user", str(error), None)
            return None
        return Known(spec, key, f"{key}-forced-{trial.id}" if self.setting.force else key, self.digest)

    # --- one trial

    def _claim(self, trial: Trial) -> Order | None:
        name = trial.name
        known = self._known(trial)
        if known is None:
            return None
        spec = known.spec
        environment = {**self.source, "code_version": self._code_of(spec)}
        if isinstance(spec, TrialSpec):
            environment["training_code"] = self.code_version(())
        claimed = self.store.claim(self.study_id, self.attempt, name, known, environment, reuse=not self.setting.force)
        if claimed.fence is None:
            if claimed.claim == Claim.BUSY:
                self._served_since = 0  # it is to be found again, whenever its equal finished
            self.refresh()
            return None
        self.claimed[name] = claimed.fence
        self.folders[name] = self.settings.trials / known.folder
        self.had_devices, self.changed = True, time.monotonic()
        job = "training" if isinstance(spec, TrialSpec) else "measurement"
        data = str(self.settings.data)
        return Order(name, spec.model_dump(mode="json"), str(self.folders[name]), data, self.digest, job, claimed.fence)

    def _with_companions(self, trial: Trial, order: Order) -> Order:
        """The order, with trials of the same teacher that go along on its devices, where the broker lets them: they would wait else."""
        group = TrialSpec.model_validate(order.spec).group if order.job == "training" else None
        if group is None or trial.losses or self.searching:  # who was lost may be too large for company; a search stops single trials
            return order
        room, waiting = self.store.companions(trial, MOST_BESIDE)
        alike = [each.name for each in waiting if each.spec and TrialSpec.model_validate(each.spec).group == group]
        names = self.store.share_devices(self.study_id, self.attempt, trial.name, alike[:room]) if alike[:room] else []
        beside = tuple(mine for each in waiting if each.name in names and (mine := self._claim(each)))
        if beside:
            self.store.note(
                self.study_id, f"{trial.title} trains together with {', '.join(each.title for each in waiting if each.name in names)}"
            )
        return replace(order, beside=beside)

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
        elif "left" in result:
            self._tell(name, functools.partial(self._preempted, name))
        elif "result" in result:
            self._tell(name, functools.partial(self._finish, name, result["result"]))
        elif "failure" in result:
            self.failed(name, result["failure"], result["reason"])

    def lost(self, name: str, reason: str) -> None:
        """The trial's process died, or raised what is no TrialFailure. One that was asked to make room has made it."""
        if name in self._asked:
            self._tell(name, functools.partial(self._preempted, name))
        else:
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
            self._over(name)

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
        if name in self._without_promise:
            assert self.searching
            self._stop_without_promise(self.searching.with_siblings(name))

    # --- those without promise

    def stops(self, name: str, epoch: int, epochs: int, metrics: Mapping[str, float]) -> bool:
        """Whether a training stops after the epoch that it reports. Asked before that is recorded, so that Tune stops it in this round."""
        if self.searching and self.searching.judge(name, epoch, epochs, metrics):
            self._without_promise.add(name)
        return name in self._without_promise

    def _stop_without_promise(self, names: list[str]) -> None:
        """Gives trainings up that reported and are stopped, and those of their combinations that have not started; one that runs is
        stopped at its next epoch."""
        mine = {name: self.claimed[name] for name in names if name in self._without_promise and name in self.claimed}
        waiting = [name for name in names if name not in self.claimed]
        for name in self.store.stop_trials(self.study_id, self.attempt, [*mine, *waiting], mine):
            self._without_promise.discard(name)
            self._over(name)

    def _preempted(self, name: str, fence: int) -> None:
        self.store.preempt_trial(self.study_id, self.attempt, name, fence)
        self._over(name)

    def _finish(self, name: str, result: dict[str, Any], fence: int) -> None:
        self.store.finish_trial(self.study_id, self.attempt, name, fence=fence, **result)
        self._over(name)

    def _fail(self, name: str, failure: FailureKind, reason: str, fence: int | None) -> None:
        self.store.fail_trial(self.study_id, self.attempt, name, failure, reason, fence)
        self._over(name)

    def _over(self, name: str) -> None:
        self.claimed.pop(name, None)
        self.folders.pop(name, None)
        self._asked.discard(name)
        self.changed = time.monotonic()
        self.signs.pop(name, None)
        self.refresh()
