"""All queries of the database, behind one small contract. Whoever acts on a study comes through here.

State moves only by `machine.advance`; every write is one transaction that holds the study's row, so events are in order and two
processes never decide on the same stale state. Rows handed out are detached copies.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, delete, event, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker, undefer

from orchestrator import machine
from orchestrator.machine import StudyState, TrialState
from orchestrator.migrations import upgrade
from orchestrator.schema import MEASUREMENT, Arm, Attempt, Dataset, Event, Heartbeat, Lease, Outbox, Point, Study, Trial
from studies.expand import Expansion
from studies.measurement import MeasurementSpec
from studies.presentation import Presentation
from studies.submission import Submission
from studies.trial import FailureKind, TrialSpec

LEASE_SECONDS = 30  # a lease whose holder was silent for so long may be taken over


class NoSuchStudy(LookupError):
    """There is no study with this id."""


class IdempotencyMismatch(ValueError):
    """An idempotency key that was used before, with another spec."""


class Superseded(Exception):
    """The caller is the driver of an attempt that is over; it must stop and write nothing more."""


class Claim(Enum):
    """What became of a driver's wish to start a trial."""

    HELD = "held"  # the lease is its own: train
    CACHED = "cached"  # an equal trial was finished, its results are copied
    BUSY = "busy"  # another trial trains the same right now, or the study is being cancelled; ask again


@dataclass(frozen=True)
class RunOwner:
    """Whose an MLflow run is. trial_id: None for a study's parent run. final: it has come to its end."""

    study_id: int
    trial_id: int | None
    final: bool


def engine_for(url: str) -> Engine:
    """The engine of a database URL. SQLite: write-ahead log, foreign keys, and writers that queue instead of failing."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url)
    if engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where `begin` below says so
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        # A reader that turned writer would fail at once when another wrote meanwhile; a writer from the start waits its turn.
        writes = connection.get_execution_options().get("retort_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


class Store:
    """The database of one Retort. Opening it brings the schema up to date. `clock` gives seconds since 1970."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self.engine = engine_for(url)
        self._clock = clock
        self._reads = sessionmaker(self.engine, expire_on_commit=False)
        self._writes = sessionmaker(self.engine.execution_options(retort_writes=True), expire_on_commit=False)
        upgrade(self.engine)

    def close(self) -> None:
        self.engine.dispose()

    def now(self) -> int:
        """Milliseconds since 1970."""
        return int(self._clock() * 1000)

    # --- studies, for those who ask for them

    def create_study(self, submission: Submission, idempotency_key: str | None = None, owner: str | None = None) -> tuple[Study, bool]:
        """The stored study and whether it was made now; a known key gives the study it made. Raises IdempotencyMismatch."""
        data = submission.spec.model_dump(mode="json")
        presentation = submission.presentation.model_dump(mode="json")
        known = self._study_of_key(idempotency_key, data, presentation)
        if known:
            return known, False
        try:
            with self._writes.begin() as session:
                study = add_study(session, submission, self.now(), idempotency_key, owner)
        except IntegrityError:
            known = self._study_of_key(idempotency_key, data, presentation)
            if known is None:
                raise
            return known, False
        return study, True

    def _study_of_key(self, key: str | None, data: dict[str, Any], presentation: dict[str, Any]) -> Study | None:
        if key is None:
            return None
        with self._reads() as session:
            study = session.scalar(select(Study).where(Study.idempotency_key == key).options(undefer(Study.presentation)))
        if study and (study.spec != data or study.presentation != presentation):
            raise IdempotencyMismatch(f"this idempotency key made study {study.id} from another spec; use a new key")
        return study

    def study(self, study_id: int) -> Study:
        """Raises NoSuchStudy."""
        with self._reads() as session:
            return _study(session, study_id)

    def presentation(self, study_id: int) -> Presentation:
        """How the study's table is laid out, as it was frozen with it. Raises NoSuchStudy."""
        with self._reads() as session:
            return Presentation.model_validate(_study(session, study_id).presentation)

    def studies(self, cursor: int | None = None, limit: int = 50) -> list[Study]:
        """Newest first; `cursor`: only those with a smaller id (the last id of the page before)."""
        query = select(Study).order_by(Study.id.desc()).limit(limit)
        with self._reads() as session:
            return list(session.scalars(query if cursor is None else query.where(Study.id < cursor)))

    def arms(self, study_id: int) -> list[Arm]:
        """Rows of the table in their order, teachers first. Raises NoSuchStudy."""
        with self._reads() as session:
            _study(session, study_id)
            return list(session.scalars(select(Arm).where(Arm.study_id == study_id).order_by(Arm.position)))

    def trials(self, study_id: int) -> list[Trial]:
        """All trials, trainings before measurements and each behind those that it needs. Raises NoSuchStudy."""
        with self._reads() as session:
            _study(session, study_id)
            return list(_trials(session, study_id).values())

    def latest_studies_of_tables(self) -> list[Study]:
        """The newest finished study of each shipped table at each scale, oldest first."""
        table, scale = Study.presentation["table"].as_string(), Study.spec["scale"].as_string()
        newest = select(func.max(Study.id)).where(Study.state == StudyState.FINISHED, table.is_not(None)).group_by(table, scale)
        with self._reads() as session:
            return list(session.scalars(select(Study).where(Study.id.in_(newest)).order_by(Study.id)))

    def trial_counts(self, study_ids: Iterable[int]) -> dict[int, Counter[TrialState]]:
        """How many trainings of each study are in which state."""
        counts: dict[int, Counter[TrialState]] = {study_id: Counter() for study_id in study_ids}
        trainings = select(Trial.study_id, Trial.state, func.count()).where(Trial.study_id.in_(counts), Trial.role != MEASUREMENT)
        query = trainings.group_by(Trial.study_id, Trial.state)
        with self._reads() as session:
            for study_id, state, count in session.execute(query):
                counts[study_id][TrialState(state)] = count
        return counts

    def points(self, study_id: int, trial: str | None = None) -> list[Point]:
        """Metric points of a study, or of its trial of that name, by trial, epoch and name."""
        query = select(Point).join(Trial).where(Trial.study_id == study_id).order_by(Trial.position, Point.epoch, Point.name)
        with self._reads() as session:
            _study(session, study_id)
            return list(session.scalars(query if trial is None else query.where(Trial.name == trial)))

    def epochs_of(self, study_id: int, metric: str) -> dict[str, dict[int, float]]:
        """A metric by epoch of every training that has it, by the trial's name."""
        found: dict[str, dict[int, float]] = {}
        query = select(Trial.name, Point.epoch, Point.value).join(Trial).where(Trial.study_id == study_id, Point.name == metric)
        with self._reads() as session:
            for name, epoch, value in session.execute(query.order_by(Trial.position, Point.epoch)):
                found.setdefault(name, {})[epoch] = value
        return found

    def attempts(self, study_id: int) -> list[Attempt]:
        """Oldest first."""
        with self._reads() as session:
            return list(session.scalars(select(Attempt).where(Attempt.study_id == study_id).order_by(Attempt.number)))

    def events(self, study_id: int, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events with an id greater than `after`, oldest first. Raises NoSuchStudy."""
        query = select(Event).where(Event.study_id == study_id, Event.id > after).order_by(Event.id).limit(limit)
        with self._reads() as session:
            _study(session, study_id)
            return list(session.scalars(query))

    def request_cancel(self, study_id: int) -> Study:
        """The study, cancelled or cancelling. Raises NoSuchStudy, IllegalMove."""
        with self._unit(study_id) as unit:
            unit.advance(machine.CancelRequested())
        return unit.study

    def request_resume(self, study_id: int) -> Study:
        """The study, queued again. Raises NoSuchStudy, IllegalMove."""
        with self._unit(study_id) as unit:
            unit.advance(machine.ResumeRequested())
        return unit.study

    # --- results, for plans and reuse

    def finished_trials(self, keys: Iterable[str]) -> dict[str, Trial]:
        """By key the newest finished trial whose checkpoint is still there; keys without one are left out."""
        with self._reads() as session:
            return _finished_trials(session, keys)

    def history(self, dataset: str, scale: str, limit: int = 500) -> list[Trial]:
        """The newest finished trainings on a dataset at a scale, to estimate from."""
        query = (
            select(Trial).where(Trial.state == TrialState.FINISHED, Trial.role != MEASUREMENT).order_by(Trial.finished.desc()).limit(limit)
        )
        with self._reads() as session:
            return [t for t in session.scalars(query) if t.spec and (t.spec["dataset"], t.spec["scale"]) == (dataset, scale)]

    def dataset_digest(self, name: str) -> str | None:
        """Digest of a dataset that was made here, else None."""
        with self._reads() as session:
            return session.scalar(select(Dataset.digest).where(Dataset.name == name))

    def record_dataset(self, name: str, digest: str) -> None:
        with self._writes.begin() as session:
            session.merge(Dataset(name=name, digest=digest, time=self.now()))

    # --- attempts, for the service

    def unfinished_studies(self) -> list[Study]:
        """Studies that are queued, running or cancelling, oldest first."""
        states = (StudyState.QUEUED, StudyState.RUNNING, StudyState.CANCELLING)
        with self._reads() as session:
            return list(session.scalars(select(Study).where(Study.state.in_(states)).order_by(Study.id)))

    def live_attempt(self, study_id: int) -> Attempt | None:
        """The attempt whose end is not recorded yet."""
        with self._reads() as session:
            return _live_attempt(session, study_id)

    def new_attempt(self, study_id: int) -> Attempt | None:
        """Opens the next attempt of a queued study; None when it is no longer queued or already has one."""
        with self._unit(study_id) as unit:
            if unit.study.state != StudyState.QUEUED or unit.machine.driven:
                return None
            last = unit.session.scalar(select(func.max(Attempt.number)).where(Attempt.study_id == study_id)) or 0
            attempt = Attempt(study_id=study_id, number=last + 1, submission=f"study-{study_id}-a{last + 1}", created=self.now())
            unit.session.add(attempt)
        return attempt

    def end_attempt(self, study_id: int, number: int, outcome: str) -> None:
        """Records that the job of an attempt is over. If its study is not, the attempt was lost (or stopped, when cancelling)."""
        with self._unit(study_id) as unit:
            attempt = unit.session.get(Attempt, (study_id, number))
            if attempt is None or attempt.ended is not None:
                return
            attempt.ended, attempt.outcome = self.now(), outcome
            if not unit.study.state.final:
                unit.note(f"attempt {number} ended: {outcome}")
                unit.advance(machine.AttemptLost(outcome))

    def note(self, study_id: int, text: str) -> None:
        """An event in words, for those who watch the study."""
        with self._unit(study_id) as unit:
            unit.note(text)

    # --- driving: only the live attempt may; everybody else gets Superseded

    def start_attempt(self, study_id: int, attempt: int) -> Study:
        """The driver of an attempt is up. Raises Superseded, IllegalMove (a study being cancelled)."""
        with self._unit(study_id, attempt) as unit:
            unit.advance(machine.AttemptStarted())
            unit.study.started = unit.study.started or self.now()
            unit.session.execute(delete(Lease).where(Lease.study_id == study_id))
            unit.note(f"attempt {attempt} started")
        return unit.study

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
                equal = _finished_trials(unit.session, [key]).get(key) if reuse else None
                if equal is None:
                    return Claim.HELD
                _copy_results(unit, equal, trial)
                unit.advance(machine.TrialCached(name))
                return Claim.CACHED
        except IntegrityError:  # another study took the lease in the same moment
            return Claim.BUSY

    def start_trial(self, study_id: int, attempt: int, name: str) -> None:
        """A claimed trial has its devices and its process."""
        with self._unit(study_id, attempt) as unit:
            unit.advance(machine.TrialStarted(name))

    def keep_leases(self, study_id: int) -> None:
        """Heartbeat of a driver: its leases hold for another LEASE_SECONDS."""
        with self._writes.begin() as session:
            session.execute(update(Lease).where(Lease.study_id == study_id).values(heartbeat=self.now()))

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

    # --- what MLflow has yet to be told

    def outbox(self, limit: int = 500) -> list[Outbox]:
        """Oldest first."""
        with self._reads() as session:
            return list(session.scalars(select(Outbox).order_by(Outbox.id).limit(limit)))

    def sent(self, ids: Sequence[int]) -> None:
        """Takes rows out of the outbox."""
        with self._writes.begin() as session:
            session.execute(delete(Outbox).where(Outbox.id.in_(ids)))

    def trial_by_id(self, trial_id: int) -> Trial:
        with self._reads() as session:
            return session.get_one(Trial, trial_id)

    def points_of(self, trial_id: int, epochs: Sequence[int]) -> list[Point]:
        """The points of some epochs of a trial."""
        query = select(Point).where(Point.trial_id == trial_id, Point.epoch.in_(epochs)).order_by(Point.epoch, Point.name)
        with self._reads() as session:
            return list(session.scalars(query))

    def set_study_run(self, study_id: int, experiment: str, run: str) -> None:
        """MLflow's ids of a study."""
        with self._writes.begin() as session:
            session.execute(update(Study).where(Study.id == study_id).values(experiment=experiment, run=run))

    def set_trial_run(self, trial_id: int, run: str | None) -> None:
        """MLflow's id of a trial."""
        with self._writes.begin() as session:
            session.execute(update(Trial).where(Trial.id == trial_id).values(run=run))

    def tell_mlflow_again(self, study_id: int, trial_id: int | None) -> None:
        """Puts a study or a trial into the outbox as a whole, for whoever found MLflow telling something else."""
        with self._writes.begin() as session:
            session.add(Outbox(study_id=study_id, trial_id=trial_id, epoch=None, time=self.now()))

    def studies_with_run(self) -> list[Study]:
        """Studies that MLflow knows of."""
        with self._reads() as session:
            return list(session.scalars(select(Study).where(Study.run.is_not(None)).order_by(Study.id)))

    def owner_of_run(self, run: str) -> RunOwner | None:
        """The study or trial that an MLflow run belongs to."""
        with self._reads() as session:
            study = session.scalar(select(Study).where(Study.run == run))
            if study:
                return RunOwner(study.id, None, study.state.final)
            trial = session.scalar(select(Trial).where(Trial.run == run))
            return RunOwner(trial.study_id, trial.id, trial.state.final) if trial else None

    # --- health

    def beat(self, name: str, trouble: str = "") -> None:
        """A loop of the service came round; `trouble` says what keeps it from its work."""
        with self._writes.begin() as session:
            session.merge(Heartbeat(name=name, time=self.now(), trouble=trouble))

    def heartbeats(self) -> list[Heartbeat]:
        """Every loop of the service with the time it was last seen."""
        with self._reads() as session:
            return list(session.scalars(select(Heartbeat).order_by(Heartbeat.name)))

    # --- one transaction on one study

    @contextmanager
    def _unit(self, study_id: int, attempt: int | None = None) -> Iterator["_Unit"]:
        with self._writes.begin() as session:
            unit = _Unit(session, study_id, self.now())
            if attempt is not None:
                live = _live_attempt(session, study_id)
                if live is None or live.number != attempt:
                    raise Superseded(f"attempt {attempt} of study {study_id} is over")
            yield unit


class _Unit:
    """A study loaded and locked for one transaction; `advance` moves it and writes what follows from that."""

    def __init__(self, session: Session, study_id: int, now: int) -> None:
        self.session = session
        self.now = now
        self.study = _study(session, study_id, lock=True)
        self.trials = _trials(session, study_id)
        self.machine = machine.Study(
            label=f"study {self.study.id} ({self.study.name})",
            state=StudyState(self.study.state),
            trials={name: _as_known(trial) for name, trial in self.trials.items()},
            stalls=self.study.stalls,
            driven=_live_attempt(session, study_id) is not None,
            reason=self.study.reason,
        )

    def advance(self, happened: machine.Event) -> None:
        try:
            self.machine, changes = machine.advance(self.machine, happened)
        except machine.IllegalMove as refused:
            raise machine.IllegalMove(_with_story(self.session, self.machine), refused.why) from None
        self.study.stalls = self.machine.stalls
        for change in changes:
            if isinstance(change, machine.StudyChange):
                self._study_changed(change)
            else:
                self._trial_changed(change)

    def _study_changed(self, change: machine.StudyChange) -> None:
        self.study.state, self.study.reason = change.state, change.reason
        self.study.finished = self.now if change.state.final else None
        if change.state.final or change.state == StudyState.QUEUED:  # no driver, nobody trains
            self.session.execute(delete(Lease).where(Lease.study_id == self.study.id))
        self.event("study", {"state": change.state, "reason": change.reason})
        if change.state != StudyState.QUEUED:
            self.tell_mlflow(None)

    def _trial_changed(self, change: machine.TrialChange) -> None:
        row, trial = self.trials[change.name], change.trial
        row.state, row.reason, row.failure, row.losses = trial.state, trial.reason, trial.failure, trial.losses
        if trial.state == TrialState.RUNNING:
            row.started, row.finished = row.started or self.now, None
        else:
            self.session.execute(delete(Lease).where(Lease.trial_id == row.id))
        row.finished = self.now if trial.state.final else None
        self.event(
            "trial",
            {
                "trial": row.name,
                "state": trial.state,
                "before": change.before,
                "reason": trial.reason,
                "failure": trial.failure,
                "losses": trial.losses,
            }
            | ({"metrics": row.metrics} if trial.state.good else {}),
        )
        shown = trial.state in (TrialState.RUNNING, TrialState.FAILED) or trial.state.good
        if row.role != MEASUREMENT and (shown or (row.started is not None and trial.state == TrialState.CANCELLED)):
            self.tell_mlflow(row)
        if trial.state.final:
            self.tell_mlflow(None)  # the table on the parent run

    def event(self, kind: str, data: dict[str, Any]) -> None:
        self.session.add(Event(study_id=self.study.id, kind=kind, data=data, time=self.now))
        self.session.flush()  # ids in the order of happening

    def note(self, text: str) -> None:
        self.event("note", {"text": text})

    def tell_mlflow(self, trial: Trial | None, epoch: int | None = None) -> None:
        self.session.add(Outbox(study_id=self.study.id, trial_id=trial.id if trial else None, epoch=epoch, time=self.now))
        self.session.flush()


def add_study(session: Session, submission: Submission, now: int, idempotency_key: str | None = None, owner: str | None = None) -> Study:
    """A queued study with its arms and trials, as part of the transaction of `session`."""
    study = Study(
        name=submission.spec.name,
        owner=owner,
        spec=submission.spec.model_dump(mode="json"),
        presentation=submission.presentation.model_dump(mode="json"),
        idempotency_key=idempotency_key,
        state=StudyState.QUEUED,
        created=now,
    )
    session.add(study)
    session.flush()
    _add_trials(session, study, submission.expansion)
    session.add(Event(study_id=study.id, kind="study", data={"state": StudyState.QUEUED, "reason": None}, time=now))
    return study


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _add_trials(session: Session, study: Study, expansion: Expansion) -> None:
    used = {trial.row for trial in expansion.trials}  # a row whose trials are all those of another has none of its own
    weights = {trial.row: trial.weights for trial in expansion.trials}
    arms = {
        row.id: Arm(
            study_id=study.id,
            position=position,
            name=row.id,
            title=row.title,
            role=row.role,
            detail={
                "network": row.network.model_dump(mode="json"),
                "schedule": row.schedule.model_dump(mode="json"),
                "distillers": [use.model_dump(mode="json") for use in row.distillers],
                "teacher": row.teacher,
                "weights": weights[row.id],
                "values": dict(row.values),
            },
        )
        for position, row in enumerate(row for row in expansion.rows if row.id in used)
    }
    session.add_all(arms.values())
    session.flush()
    for position, trial in enumerate(expansion.trials):
        state = TrialState.WAITING if trial.teacher else TrialState.READY
        session.add(
            Trial(
                study_id=study.id,
                arm_id=arms[trial.row].id,
                position=position,
                name=trial.id,
                title=f"{trial.title} · seed {trial.seed}",
                role=trial.role,
                seed=trial.seed,
                teacher=trial.teacher,
                state=state,
            )
        )
    _add_measurements(session, study, expansion, arms)
    session.flush()


def _add_measurements(session: Session, study: Study, expansion: Expansion, arms: dict[str, Arm]) -> None:
    """The measurements behind the trainings, each with the arm of the training that it measures."""
    row_of = {trial.id: trial.row for trial in expansion.trials}
    for position, planned in enumerate(expansion.measurements, start=len(expansion.trials)):
        content = {
            "kind": planned.kind,
            "detector": planned.detector,
            "options": planned.options,
            "distillers": [use.model_dump(mode="json") for use in planned.distillers],
        }
        session.add(
            Trial(
                study_id=study.id,
                arm_id=arms[row_of[planned.detector]].id,
                position=position,
                name=planned.id,
                title=planned.title,
                role=MEASUREMENT,
                seed=planned.seed,
                teacher=planned.teacher,
                measurement=content,
                state=TrialState.WAITING,
            )
        )


def _study(session: Session, study_id: int, lock: bool = False) -> Study:
    study = session.get(Study, study_id, with_for_update=lock or None)
    if study is None:
        raise NoSuchStudy(f"there is no study {study_id}")
    return study


def _trials(session: Session, study_id: int) -> dict[str, Trial]:
    return {trial.name: trial for trial in session.scalars(select(Trial).where(Trial.study_id == study_id).order_by(Trial.position))}


def _live_attempt(session: Session, study_id: int) -> Attempt | None:
    return session.scalar(select(Attempt).where(Attempt.study_id == study_id, Attempt.ended.is_(None)))


def _finished_trials(session: Session, keys: Iterable[str]) -> dict[str, Trial]:
    """By key the newest finished trial whose checkpoint is still there."""
    found: dict[str, Trial] = {}
    wanted = sorted(keys)
    for start in range(0, len(wanted), 500):  # a statement has room for so many values in every database
        query = (
            select(Trial)
            .where(Trial.key.in_(wanted[start : start + 500]), Trial.state == TrialState.FINISHED)
            .order_by(Trial.finished.desc())
        )
        for trial in session.scalars(query):
            if trial.key and trial.key not in found and trial.checkpoint and Path(trial.checkpoint).is_file():
                found[trial.key] = trial
    return found


def _as_known(trial: Trial) -> machine.Trial:
    return machine.Trial(TrialState(trial.state), trial.needs, trial.losses, trial.reason, trial.failure)  # type: ignore[arg-type]


def _with_story(session: Session, study: machine.Study) -> machine.Study:
    """The study with its last events, for a message."""
    query = select(Event).where(Event.kind.in_(("study", "trial", "note"))).order_by(Event.id.desc()).limit(8)
    number = int(study.label.split()[1])
    told = [_told(event) for event in session.scalars(query.where(Event.study_id == number))]
    return machine.Study(study.label, study.state, study.trials, study.stalls, study.driven, study.reason, tuple(reversed(told)))


def _told(happened: Event) -> str:
    data = happened.data
    if happened.kind == "note":
        return str(data["text"])
    who = f"trial {data['trial']}" if happened.kind == "trial" else "study"
    return f"{who} {data['state']}" + (f" ({data['reason']})" if data.get("reason") else "")


def _forget_results(session: Session, trial: Trial) -> None:
    """A trial whose key changed (its code or teacher did) starts over, with a new MLflow run."""
    session.execute(delete(Point).where(Point.trial_id == trial.id))
    trial.epoch, trial.epochs, trial.latest, trial.metrics, trial.seconds, trial.run = 0, None, None, None, None, None
    trial.started = None


def _copy_results(unit: _Unit, source: Trial, trial: Trial) -> None:
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
