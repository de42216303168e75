"""Who trains in which folder: the lease that a driver takes before it trains, so that two studies never train the same at once."""

from enum import Enum

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from orchestrator import machine
from orchestrator.machine import StudyState
from orchestrator.records.rows import finished_trials
from orchestrator.records.schema import Lease, Point, Trial
from orchestrator.records.unit import Unit, Units
from studies.measurement import MeasurementSpec
from studies.trial import TrialSpec

LEASE_SECONDS = 30  # a lease whose holder was silent for so long may be taken over


class Claim(Enum):
    """What became of a driver's wish to start a trial."""

    HELD = "held"  # the lease is its own: train
    CACHED = "cached"  # an equal trial was finished, its results are copied
    BUSY = "busy"  # another trial trains the same right now, or the study is being cancelled; ask again


class Leases(Units):
    """Taking and keeping leases."""

    def claim(
        self,
        study_id: int,
        attempt: int,
        name: str,
        spec: TrialSpec | MeasurementSpec,
        key: str,
        folder: str,
        digest: str,
        environment: dict[str, str],
        reuse: bool,
    ) -> Claim:
        """Takes the lease of a ready trial, or the results of its equal, or tells to wait for the one who trains it.

        `folder` is where it trains, under $RETORT_HOME/trials; `environment` what is known of it before it runs.
        """
        try:
            with self._unit(study_id, attempt) as unit:
                trial = unit.trials[name]
                if unit.study.state == StudyState.CANCELLING:
                    return Claim.BUSY
                now = self.now()
                lease = unit.session.get(Lease, folder, with_for_update=True)
                if lease and lease.trial_id != trial.id and lease.heartbeat > now - LEASE_SECONDS * 1000:
                    return Claim.BUSY
                if lease:
                    lease.trial_id, lease.study_id, lease.heartbeat = trial.id, study_id, now
                else:
                    unit.session.add(Lease(folder=folder, trial_id=trial.id, study_id=study_id, heartbeat=now))
                unit.session.flush()
                if trial.key != key:
                    _forget_results(unit.session, trial)
                trial.key, trial.spec, trial.folder, trial.dataset_digest = key, spec.model_dump(mode="json"), folder, digest
                trial.environment = dict(environment)
                # Looked up with the lease in hand: whoever held it before has recorded its result by now.
                equal = finished_trials(unit.session, [key]).get(key) if reuse else None
                if equal is None:
                    return Claim.HELD
                _copy_results(unit, equal, trial)
                unit.advance(machine.TrialCached(name))
                return Claim.CACHED
        except IntegrityError:  # another study took the lease in the same moment
            return Claim.BUSY

    def keep_leases(self, study_id: int) -> None:
        """Heartbeat of a driver: its leases hold for another LEASE_SECONDS."""
        with self._writes.begin() as session:
            session.execute(update(Lease).where(Lease.study_id == study_id).values(heartbeat=self.now()))


def _forget_results(session: Session, trial: Trial) -> None:
    """A trial whose key changed (its code or teacher did) starts over, with a new MLflow run."""
    session.execute(delete(Point).where(Point.trial_id == trial.id))
    trial.epoch, trial.epochs, trial.latest, trial.metrics, trial.seconds, trial.run = 0, None, None, None, None, None
    trial.started = None


def _copy_results(unit: Unit, source: Trial, trial: Trial) -> None:
    """Results and points of an equal trial, points at the time they were first recorded."""
    session = unit.session
    session.execute(delete(Point).where(Point.trial_id == trial.id))
    for field in ("epoch", "epochs", "latest", "metrics", "checkpoint", "checkpoint_sha256", "best_checkpoint", "seconds", "environment"):
        setattr(trial, field, getattr(source, field))
    trial.source_id = source.id
    trial.started = trial.started or unit.now
    points = list(session.scalars(select(Point).where(Point.trial_id == source.id)))
    copies = [{"trial_id": trial.id, "epoch": p.epoch, "name": p.name, "value": p.value, "time": p.time} for p in points]
    if copies:
        session.execute(insert(Point), copies)
    for epoch in sorted({point.epoch for point in points}):
        unit.tell_mlflow(trial, epoch)
