"""What a driver records of its study. Only the live attempt may; everybody else gets Superseded.

Each unit may be repeated: what was recorded before is recorded once. `fence` is the number of the lease that a trial is trained under.
"""

import math

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from orchestrator import machine
from orchestrator.machine import TrialState
from orchestrator.records.leases import holds
from orchestrator.records.patience import patient
from orchestrator.records.queries import Queries
from orchestrator.records.schema import Attempt, Lease, Point, Study, Trial
from orchestrator.records.unit import Units
from studies.trial import FailureKind


class Progress(Queries, Units):
    """Units of work of a driver, each one transaction."""

    @patient
    def start_attempt(self, study_id: int, attempt: int) -> Study:
        """The driver of an attempt is up. Raises Superseded, IllegalMove (a study being cancelled)."""
        with self._unit(study_id, attempt) as unit:
            before = unit.study.state
            unit.advance(machine.AttemptStarted())
            unit.study.started = unit.study.started or self.now()
            unit.session.execute(delete(Lease).where(Lease.study_id == study_id))
            if unit.study.state != before:
                unit.note(f"attempt {attempt} started")
        return self.study(study_id)

    @patient
    def start_trial(self, study_id: int, attempt: int, name: str, fence: int) -> None:
        """A claimed trial has its devices and its process. Raises LeaseLost."""
        with self._unit(study_id, attempt) as unit:
            trial = unit.trial(name)
            if holds(unit, trial, fence) and trial.state != TrialState.RUNNING:
                unit.advance(machine.TrialStarted(name))

    @patient
    def record_epoch(self, study_id: int, attempt: int, name: str, epoch: int, epochs: int, metrics: dict[str, float], fence: int) -> bool:
        """Stores the metrics of an epoch (1-based); an epoch that is known changes nothing and gives False. Raises LeaseLost.

        A metric that is not finite (AP of large objects where there are none) is left out.
        """
        metrics = finite(metrics)
        with self._unit(study_id, attempt) as unit:
            trial = unit.trial(name)
            if not holds(unit, trial, fence) or _known(unit.session, trial, epoch, metrics):
                return False
            unit.advance(machine.EpochDone(name))
            now = self.now()
            points = [{"trial_id": trial.id, "epoch": epoch, "name": key, "value": value, "time": now} for key, value in metrics.items()]
            if points:
                unit.session.execute(insert(Point), points)
            trial.epoch, trial.epochs, trial.latest = max(epoch, trial.epoch), epochs, dict(metrics)
            unit.event("epoch", {"trial": name, "epoch": epoch, "epochs": epochs, "metrics": metrics})
            unit.tell_mlflow(trial, epoch)
            return True

    @patient
    def finish_trial(
        self,
        study_id: int,
        attempt: int,
        name: str,
        *,
        fence: int,
        metrics: dict[str, float],
        checkpoint: str,
        checkpoint_sha256: str,
        best_checkpoint: str | None,
        seconds: float,
        environment: dict[str, str],
    ) -> None:
        """Stores the results of a trial that came to its end; a measurement has no best checkpoint, and its document for a checkpoint.
        Raises LeaseLost."""
        with self._unit(study_id, attempt) as unit:
            trial = unit.trial(name)
            if not holds(unit, trial, fence):
                return
            trial.metrics, trial.checkpoint, trial.checkpoint_sha256, trial.best_checkpoint = (
                finite(metrics),
                checkpoint,
                checkpoint_sha256,
                best_checkpoint,
            )
            trial.seconds, trial.environment = seconds, {**(trial.environment or {}), **environment}
            unit.advance(machine.TrialFinished(name))

    @patient
    def fail_trial(self, study_id: int, attempt: int, name: str, failure: FailureKind, reason: str, fence: int | None) -> None:
        """A trial failed; an `infra` failure makes it ready again, up to machine.MAX_LOSSES times. fence: None for one that fails before
        it was claimed. Raises LeaseLost."""
        with self._unit(study_id, attempt) as unit:
            trial = unit.trial(name)
            told = trial.state != TrialState.READY if fence is None else not holds(unit, trial, fence)
            if told:
                return
            if failure == "infra":
                unit.note(f"trial {name} was lost: {reason}")  # its state alone tells no reason while it is tried again
            unit.advance(machine.TrialFailed(name, failure, reason))

    @patient
    def conclude(self, study_id: int, attempt: int) -> Study:
        """Every trial has its end: the study is finished (or failed, when none succeeded) and so is the attempt."""
        return self._end(study_id, attempt, machine.AllTrialsEnded(), "done")

    @patient
    def stopped(self, study_id: int, attempt: int) -> Study:
        """The driver of a study being cancelled has stopped in good order."""
        return self._end(study_id, attempt, machine.Stopped(), "stopped")

    @patient
    def fail_study(self, study_id: int, attempt: int, reason: str) -> Study:
        """The study cannot be run at all."""
        return self._end(study_id, attempt, machine.StudyFailed(reason), reason)

    def _end(self, study_id: int, attempt: int, ending: machine.Event, outcome: str) -> Study:
        with self._unit(study_id) as unit:
            row = unit.session.get_one(Attempt, (study_id, attempt))
            if row.ended is None or row.outcome != outcome:  # else it was said before, and the answer was lost
                unit.require(attempt)
                unit.advance(ending)
                row.ended, row.outcome = self.now(), outcome
        return self.study(study_id)


def _known(session: Session, trial: Trial, epoch: int, metrics: dict[str, float]) -> bool:
    """Whether an epoch was recorded before; one without a single number has no points to tell by."""
    if epoch > trial.epoch or not metrics:
        return epoch <= trial.epoch
    return session.scalar(select(Point.epoch).where(Point.trial_id == trial.id, Point.epoch == epoch).limit(1)) is not None


def finite(metrics: dict[str, float]) -> dict[str, float]:
    """Without NaN and infinity, which databases do not take."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
