"""What a driver records of its study. Only the live attempt may; everybody else gets Superseded."""

import math

from sqlalchemy import delete, insert, select

from orchestrator import machine
from orchestrator.records.schema import Attempt, Lease, Point, Study
from orchestrator.records.unit import Units
from studies.trial import FailureKind


class Progress(Units):
    """Units of work of a driver, each one transaction."""

    def start_attempt(self, study_id: int, attempt: int) -> Study:
        """The driver of an attempt is up. Raises Superseded, IllegalMove (a study being cancelled)."""
        with self._unit(study_id, attempt) as unit:
            unit.advance(machine.AttemptStarted())
            unit.study.started = unit.study.started or self.now()
            unit.session.execute(delete(Lease).where(Lease.study_id == study_id))
            unit.note(f"attempt {attempt} started")
        return unit.study

    def start_trial(self, study_id: int, attempt: int, name: str) -> None:
        """A claimed trial has its devices and its process."""
        with self._unit(study_id, attempt) as unit:
            unit.advance(machine.TrialStarted(name))

    def record_epoch(self, study_id: int, attempt: int, name: str, epoch: int, epochs: int, metrics: dict[str, float]) -> bool:
        """Stores the metrics of an epoch (1-based); an epoch that is known changes nothing and gives False.

        A metric that is not finite (AP of large objects where there are none) is left out.
        """
        metrics = _finite(metrics)
        with self._unit(study_id, attempt) as unit:
            trial = unit.trials[name]
            if unit.session.scalar(select(Point.epoch).where(Point.trial_id == trial.id, Point.epoch == epoch).limit(1)):
                return False
            unit.advance(machine.EpochDone(name))
            now = self.now()
            points = [{"trial_id": trial.id, "epoch": epoch, "name": key, "value": value, "time": now} for key, value in metrics.items()]
            unit.session.execute(insert(Point), points)
            trial.epoch, trial.epochs, trial.latest = epoch, epochs, dict(metrics)
            unit.event("epoch", {"trial": name, "epoch": epoch, "epochs": epochs, "metrics": metrics})
            unit.tell_mlflow(trial, epoch)
            return True

    def finish_trial(
        self,
        study_id: int,
        attempt: int,
        name: str,
        *,
        metrics: dict[str, float],
        checkpoint: str,
        checkpoint_sha256: str,
        best_checkpoint: str | None,
        seconds: float,
        environment: dict[str, str],
    ) -> None:
        """Stores the results of a trial that came to its end; a measurement has no best checkpoint, and its document for a checkpoint."""
        with self._unit(study_id, attempt) as unit:
            trial = unit.trials[name]
            trial.metrics, trial.checkpoint, trial.checkpoint_sha256, trial.best_checkpoint = (
                _finite(metrics),
                checkpoint,
                checkpoint_sha256,
                best_checkpoint,
            )
            trial.seconds, trial.environment = seconds, {**(trial.environment or {}), **environment}
            unit.advance(machine.TrialFinished(name))

    def fail_trial(self, study_id: int, attempt: int, name: str, failure: FailureKind, reason: str) -> None:
        """A trial failed; an `infra` failure makes it ready again, up to machine.MAX_LOSSES times."""
        with self._unit(study_id, attempt) as unit:
            unit.advance(machine.TrialFailed(name, failure, reason))

    def conclude(self, study_id: int, attempt: int) -> Study:
        """Every trial has its end: the study is finished (or failed, when none succeeded) and so is the attempt."""
        return self._end(study_id, attempt, machine.AllTrialsEnded(), "done")

    def stopped(self, study_id: int, attempt: int) -> Study:
        """The driver of a study being cancelled has stopped in good order."""
        return self._end(study_id, attempt, machine.Stopped(), "stopped")

    def fail_study(self, study_id: int, attempt: int, reason: str) -> Study:
        """The study cannot be run at all."""
        return self._end(study_id, attempt, machine.StudyFailed(reason), reason)

    def _end(self, study_id: int, attempt: int, ending: machine.Event, outcome: str) -> Study:
        with self._unit(study_id, attempt) as unit:
            unit.advance(ending)
            row = unit.session.get_one(Attempt, (study_id, attempt))
            row.ended, row.outcome = self.now(), outcome
        return unit.study


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
