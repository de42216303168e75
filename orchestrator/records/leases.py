"""Who trains in which folder: the lease that a driver takes before it trains, so that two studies never train the same at once.

A lease's id is its fencing number. All that is written of a trial names the number it is trained under, and is refused when another
trial has had a lease of the same folder since: whoever fell silent and was taken over finds out with its next word.
"""

import logging
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from orchestrator import machine
from orchestrator.machine import StudyState
from orchestrator.records.errors import LeaseLost, Superseded
from orchestrator.records.patience import patient
from orchestrator.records.rows import finished_trials, live_attempt
from orchestrator.records.schema import DeviceGrant, Lease, Point, Trial
from orchestrator.records.unit import Unit, Units
from orchestrator.storage.storage import StorageError
from studies.measurement import MeasurementSpec
from studies.trial import TrialSpec

log = logging.getLogger(__name__)
LEASE_SECONDS = 30  # a lease whose holder was silent for so long may be taken over


class Claim(Enum):
    """What became of a driver's wish to start a trial."""

    HELD = "held"  # the lease is its own: train
    CACHED = "cached"  # an equal trial was finished, its results are copied
    BUSY = "busy"  # another trial trains the same right now, or the study is being cancelled; ask again
    UNGRANTED = "ungranted"  # it would have to be trained, and has no devices


@dataclass(frozen=True)
class Claimed:
    """The answer to a claim. fence: number of the lease when it is held."""

    claim: Claim
    fence: int | None = None


@dataclass(frozen=True)
class Known:
    """What a trial is to train, once that is known. folder: where, under $RETORT_HOME/trials. digest: of its dataset."""

    spec: TrialSpec | MeasurementSpec
    key: str
    folder: str
    digest: str


class Leases(Units):
    """Taking and keeping leases."""

    @patient
    def claim(
        self,
        study_id: int,
        attempt: int,
        name: str,
        known: Known,
        environment: dict[str, str],
        reuse: bool,
    ) -> Claimed:
        """Takes the lease of a ready trial that was granted devices, or the results of its equal, or tells to wait for the one who trains
        it; a grant that cannot be used so is given back.

        `environment` is what is known of it before it runs.
        """
        try:
            with self._unit(study_id, attempt) as unit:
                if unit.study.state == StudyState.CANCELLING:
                    return Claimed(Claim.BUSY)
                unit.advance(machine.TrialClaimed(name))
                trial = unit.trial(name)
                know(unit.session, trial, known)
                lease = _take(unit, known.folder, trial)
                grant = unit.session.get(DeviceGrant, trial.id)
                if lease is None:
                    if grant:
                        unit.session.delete(grant)
                    return Claimed(Claim.BUSY)
                # Looked up with the lease in hand: whoever held it before has recorded its result by now.
                equal = finished_trials(unit.session, [known.key], self.files).get(known.key) if reuse else None
                if equal is None and grant is None:
                    unit.session.delete(lease)
                    trial.folder = None  # no equal serves it, whatever was thought: so the broker counts it among those that want devices
                    return Claimed(Claim.UNGRANTED)
                trial.environment, trial.fence = dict(environment), lease.id
                if equal is None:
                    return Claimed(Claim.HELD, lease.id)
                _copy_results(unit, equal, trial)
                unit.advance(machine.TrialCached(name))
                return Claimed(Claim.CACHED)
        except IntegrityError:  # another study took the lease in the same moment
            return Claimed(Claim.BUSY)
        except StorageError as trouble:  # whether an equal's results are there will be known later
            log.warning("trial %s of study %s is claimed later: %s", name, study_id, trouble)
            return Claimed(Claim.BUSY)

    @patient
    def lose_lease(self, study_id: int, attempt: int, name: str) -> None:
        """The driver was told LeaseLost: its trial is ready again, and whoever trains it now may have its results later."""
        with self._unit(study_id, attempt) as unit:
            unit.advance(machine.LeaseLost(name))

    @patient
    def keep_leases(self, study_id: int, attempt: int) -> None:
        """Heartbeat of a driver: its leases hold for another LEASE_SECONDS. Raises Superseded."""
        with self._writes.begin() as session:
            live = live_attempt(session, study_id)
            if live is None or live.number != attempt:
                raise Superseded(f"attempt {attempt} of study {study_id} is over")
            session.execute(update(Lease).where(Lease.study_id == study_id).values(heartbeat=self.now()))


def holds(unit: Unit, trial: Trial, fence: int) -> bool:
    """Whether the lease `fence` of a trial still stands; False when it ended with what is being told again. Raises LeaseLost."""
    if unit.session.get(Lease, fence):
        return True
    newer = exists().where(Trial.key == trial.key, Trial.folder == trial.folder, Trial.fence > fence)
    if trial.fence != fence or unit.session.scalar(select(newer)):
        raise LeaseLost(f"trial {trial.name} of study {unit.study.id} lost its lease {fence}: another has trained in {trial.folder} since")
    return False


def know(session: Session, trial: Trial, known: Known) -> None:
    """Writes down what a trial is to train. One whose key changed (its code or teacher did) starts over."""
    if trial.key not in (None, known.key):
        _forget_results(session, trial)
    trial.key, trial.spec, trial.folder = known.key, known.spec.model_dump(mode="json"), known.folder
    trial.dataset_digest = known.digest


def _take(unit: Unit, folder: str, trial: Trial) -> Lease | None:
    """A new lease of the folder; None while another trial holds it."""
    old = unit.session.scalar(select(Lease).where(Lease.folder == folder).with_for_update())
    # Either way: a clock that was set back must not keep the lease of a holder that is gone for as long.
    if old and old.trial_id != trial.id and abs(unit.now - old.heartbeat) < LEASE_SECONDS * 1000:
        return None
    if old:
        unit.session.delete(old)
        unit.session.flush()
    lease = Lease(folder=folder, trial_id=trial.id, study_id=unit.study.id, heartbeat=unit.now)
    unit.session.add(lease)
    unit.session.flush()
    return lease


def _forget_results(session: Session, trial: Trial) -> None:
    """Of a trial that starts over; it gets a new MLflow run."""
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
