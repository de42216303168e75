"""A study as its driver sees it: which trial is next, and what became of each. Knows no Ray; writes through to the store."""

import functools
import subprocess
import time
from pathlib import Path
from typing import Any

from orchestrator.driving.order import Order
from orchestrator.machine import TrialState
from orchestrator.plan import measurement_from, planned_from, teacher_ref
from orchestrator.records.leases import Claim
from orchestrator.records.schema import Trial
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from studies.code import code_version
from studies.measurement import MeasurementSpec, measurement_code
from studies.spec import Schedule
from studies.trial import FailureKind, Setting, TrialSpec

ASK_AGAIN_SECONDS = 1.0  # how often a trial that another study trains is asked for


class Graph:
    """The study as its driver sees it: which trial is next, and what became of each. Writes through to the store."""

    def __init__(self, store: Store, study_id: int, attempt: int, setting: Setting, digest: str, settings: Settings) -> None:
        self.store, self.study_id, self.attempt = store, study_id, attempt
        self.setting, self.digest, self.settings = setting, digest, settings
        self.arms = {arm.id: arm for arm in store.arms(study_id)}
        self.claimed: set[str] = set()  # handed to Tune, end not seen yet
        self.ask_again: dict[str, float] = {}  # trials another study trains -> when to look again
        self.signs: dict[str, dict[str, Any]] = {}  # trial -> its last sign of life inside an epoch; not stored
        self.source = source_of_code()
        self.code_version = functools.cache(code_version)  # as it was when this driver began: its processes keep what they imported
        self.measurement_code = functools.cache(measurement_code)
        self.first: Order | None = None  # claimed by `settle`, handed out first
        self.trials: dict[str, Trial] = {}
        self.refresh()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune writes its arguments down for a restore; ours is the database

    def refresh(self) -> None:
        self.trials = {trial.name: trial for trial in self.store.trials(self.study_id)}

    @property
    def ended(self) -> bool:
        return all(trial.state.final for trial in self.trials.values())

    @property
    def waiting(self) -> bool:
        """Whether a trial has no end yet and is not handed out either."""
        return any(not trial.state.final and name not in self.claimed for name, trial in self.trials.items())

    def settle(self) -> bool:
        """Takes over what equal trials have done; False when that leaves something to train."""
        self.first = self.first or self.next()
        return self.ended

    def next(self) -> Order | None:
        """The next trial to train; None while there is none: all are running, waiting, or being trained by another study."""
        if self.first:
            order, self.first = self.first, None
            return order
        while name := self._candidate():
            claimed = self._claim(name)
            if claimed:
                return claimed
        return None

    def _candidate(self) -> str | None:
        """The first ready trial that is neither handed out nor being trained by somebody else."""
        now = time.monotonic()
        ready = (name for name, trial in self.trials.items() if trial.state == TrialState.READY and name not in self.claimed)
        return next((name for name in ready if self.ask_again.get(name, 0.0) <= now), None)

    def _claim(self, name: str) -> Order | None:
        trial = self.trials[name]
        try:
            spec = self._resolve(trial)
            code = self._code_of(spec)
            key = spec.key(self.digest, code)
        except ValueError as error:
            self.failed(name, "user", str(error))
            return None
        folder = f"{key}-forced-{trial.id}" if self.setting.force else key
        environment = {**self.source, "code_version": code}
        if isinstance(spec, TrialSpec):
            environment["training_code"] = self.code_version(())
        claim = self.store.claim(
            self.study_id, self.attempt, name, spec, key, folder, self.digest, environment, reuse=not self.setting.force
        )
        if claim == Claim.HELD:
            self.claimed.add(name)
            job = "training" if isinstance(spec, TrialSpec) else "measurement"
            return Order(name, spec.model_dump(mode="json"), str(self.settings.trials / folder), str(self.settings.data), job)
        if claim == Claim.CACHED:
            self.refresh()
        else:
            self.ask_again[name] = time.monotonic() + ASK_AGAIN_SECONDS
        return None

    def _resolve(self, trial: Trial) -> TrialSpec | MeasurementSpec:
        """What it trains or measures. Raises ValueError where the catalogue no longer has what it names."""
        teacher = teacher_ref(self.trials[trial.teacher]) if trial.teacher else None
        arm = self.arms[trial.arm_id]
        if trial.measurement is None:
            return planned_from(trial, arm).resolve(self.setting, teacher)
        planned = measurement_from(trial, arm)
        schedule = Schedule.model_validate(arm.detail["schedule"])
        return planned.resolve(self.setting, teacher_ref(self.trials[planned.detector]), teacher, schedule)

    def _code_of(self, spec: TrialSpec | MeasurementSpec) -> str:
        if isinstance(spec, TrialSpec):
            return self.code_version(spec.methods)
        return self.measurement_code(spec.kind, tuple(sorted(use.id for use in spec.distillers)))

    def started(self, name: str) -> None:
        self.store.start_trial(self.study_id, self.attempt, name)
        self.refresh()

    def reported(self, name: str, result: dict[str, Any]) -> None:
        """A sign of life inside an epoch, an epoch, the result, or the failure that `trainable.train` reports."""
        if "step" in result:
            self.signs[name] = {field: result[field] for field in ("epoch", "epochs", "step", "steps", "metrics")}
        elif "epoch" in result:
            self.store.record_epoch(self.study_id, self.attempt, name, result["epoch"], result["epochs"], result["metrics"])
        elif "result" in result:
            self.store.finish_trial(self.study_id, self.attempt, name, **result["result"])
            self.claimed.discard(name)
            self.refresh()
        elif "failure" in result:
            self.failed(name, result["failure"], result["reason"])

    def lost(self, name: str, reason: str) -> None:
        """The trial's process died, or raised what is no TrialFailure."""
        if name in self.claimed:
            self.failed(name, "infra", reason)

    def failed(self, name: str, failure: FailureKind, reason: str) -> None:
        self.store.fail_trial(self.study_id, self.attempt, name, failure, reason)
        self.claimed.discard(name)
        self.refresh()


def source_of_code() -> dict[str, str]:
    """Git commit of this checkout and whether it has changes; empty when the code is installed without git."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return {}
        return {"git_sha": git("rev-parse", "HEAD"), "git_dirty": "true" if git("status", "--porcelain") else "false"}
    except (OSError, subprocess.CalledProcessError):
        return {}
