"""All that pages read from the database, in a few bounded queries a page, however many trials a study has.

Tables are kept until a trial of their study changes: a page that is looked at again builds none.
"""

import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Text, case, cast, func, or_, select
from sqlalchemy.orm import sessionmaker

from api.problems import not_found
from orchestrator.machine import StudyState, TrialState
from orchestrator.records.errors import NoSuchStudy
from orchestrator.records.schema import MEASUREMENT, Arm, Attempt, Event, Heartbeat, Outbox, Point, Study, Trial
from orchestrator.records.store import Store
from orchestrator.reporting.build import build
from orchestrator.reporting.table import Table
from orchestrator.schedules.telling import table_notes

MOST_TABLES = 64  # that are kept
QUIET = ("epoch", "step", "note")  # events that change no table
MOST_NAMED = 500  # trials that one query names
BUSY = (StudyState.QUEUED, StudyState.RUNNING, StudyState.CANCELLING)


@dataclass(frozen=True)
class Progress:
    """How far a study is. counts: trainings by state. share: of them that is done, from 0 to 1, running ones by their epochs.
    seconds_left: at the pace of the attempt that runs; None before it has a pace, and at rest."""

    counts: Counter[TrialState]
    share: float
    seconds_left: float | None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        return sum(count for state, count in self.counts.items() if state.kept)


@dataclass(frozen=True)
class Bar:
    """A trial on the timeline; times in milliseconds. device: where it ran, as far as it said."""

    name: str
    title: str
    role: str
    state: TrialState
    started: int
    ended: int
    device: str


class Result(NamedTuple):
    """A trial with what a table asks of it (orchestrator.reporting.results.Result)."""

    name: str
    seed: int
    state: TrialState
    reason: str | None
    metrics: dict[str, Any] | None
    run: str | None
    dataset_digest: str | None
    environment: dict[str, Any] | None


Stamp = tuple[Any, ...]  # of a trial: what changes whenever a table has to ask for it again


class Kept(NamedTuple):
    """A table, what was stored when it was built, and the results it was built from, by the trials' ids."""

    version: object
    table: Table
    results: Mapping[int, tuple[Stamp, Result]]


class Reading:
    """The database as pages see it. Every method that takes a study's id raises ProblemError where there is none."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._reads = sessionmaker(store.engine, expire_on_commit=False)
        self._tables: OrderedDict[int, Kept] = OrderedDict()
        self._lock = threading.Lock()

    # --- studies

    def study(self, study_id: int) -> Study:
        """The stored study."""
        try:
            return self.store.study(study_id)
        except NoSuchStudy:
            raise not_found("study", str(study_id)) from None

    def studies(self, states: Collection[StudyState], text: str, before: int | None, limit: int) -> list[Study]:
        """Newest first, with an id below `before`. text: a part of the name, the owner, the dataset or the table's id."""
        query = select(Study).order_by(Study.id.desc()).limit(limit)
        if states:
            query = query.where(Study.state.in_(states))
        if text:
            fields = (Study.name, Study.owner, Study.spec["dataset"].as_string(), Study.presentation["table"].as_string())
            wanted = f"%{text.lower().replace('%', '').replace('_', ' ')}%"
            found = [func.replace(func.lower(func.coalesce(field, "")), "_", " ").like(wanted) for field in fields]
            query = query.where(or_(*found))
        if before is not None:
            query = query.where(Study.id < before)
        with self._reads() as session:
            return list(session.scalars(query))

    def tables_of(self, study_ids: Iterable[int]) -> dict[int, str]:
        """The id of the shipped table that each of these studies is, for those that are one."""
        table = Study.presentation["table"].as_string()
        with self._reads() as session:
            found = session.execute(select(Study.id, table).where(Study.id.in_(list(study_ids)), table.is_not(None)))
            return {study_id: str(name) for study_id, name in found}

    def progress(self, studies: Sequence[Study]) -> dict[int, Progress]:
        """How far each of these is."""
        ids = [study.id for study in studies]
        counts: dict[int, Counter[TrialState]] = {study_id: Counter() for study_id in ids}
        parts = dict.fromkeys(ids, 0.0)  # of running trainings, in trainings
        running = case((Trial.state == TrialState.RUNNING, Trial.epoch * 1.0 / Trial.epochs), else_=0.0)
        query = select(Trial.study_id, Trial.state, func.count(), func.sum(running)).where(
            Trial.study_id.in_(ids), Trial.role != MEASUREMENT
        )
        with self._reads() as session:
            for study_id, state, count, part in session.execute(query.group_by(Trial.study_id, Trial.state)):
                counts[study_id][TrialState(state)] = count
                parts[study_id] += part or 0.0
        paces = self._paces([study.id for study in studies if study.state == StudyState.RUNNING], parts)
        return {study_id: _progress(counts[study_id], parts[study_id], paces.get(study_id)) for study_id in ids}

    def _paces(self, running: Sequence[int], parts: dict[int, float]) -> dict[int, float]:
        """Trainings a second of the attempt that drives each study, from its start until now."""
        if not running:
            return {}
        trained = func.count(Trial.id)
        query = (
            select(Attempt.study_id, Attempt.created, trained)
            .outerjoin(
                Trial,
                (Trial.study_id == Attempt.study_id)
                & (Trial.finished >= Attempt.created)
                & (Trial.state == TrialState.FINISHED)
                & (Trial.role != MEASUREMENT),
            )
            .where(Attempt.study_id.in_(running), Attempt.ended.is_(None))
            .group_by(Attempt.study_id, Attempt.created)
        )
        now = self.store.now()
        with self._reads() as session:
            return {
                study_id: (count + parts[study_id]) * 1000 / max(1, now - created) for study_id, created, count in session.execute(query)
            }

    def last_event(self, study_id: int | None = None) -> int:
        """The id of the newest event of a study, or of all; 0 before the first."""
        query = select(func.max(Event.id))
        with self._reads() as session:
            return session.scalar(query if study_id is None else query.where(Event.study_id == study_id)) or 0

    def happened(self, study_id: int, kinds: Collection[str], limit: int) -> list[Event]:
        """The newest events of these kinds, newest first."""
        query = select(Event).where(Event.study_id == study_id, Event.kind.in_(kinds)).order_by(Event.id.desc()).limit(limit)
        with self._reads() as session:
            return list(session.scalars(query))

    def attempts(self, study_id: int) -> list[Attempt]:
        """Oldest first."""
        return self.store.attempts(study_id)

    # --- tables

    def table(self, study: Study, mlflow_ui: str | None = None) -> Table:
        """The study's table from what is stored until now."""
        version = (self._last_turn(study.id), study.state, study.run, study.experiment)
        with self._lock:
            kept = self._tables.get(study.id)
            if kept and kept.version == version:
                self._tables.move_to_end(study.id)
                return kept.table
        results = self._results(study.id, kept.results if kept else {})
        table = build(study, self.store.presentation(study.id), [result for _, result in results.values()], mlflow_ui)
        table = replace(table, notes=[*table.notes, *table_notes(self.store, study.id)])
        with self._lock:
            self._tables[study.id] = Kept(version, table, results)
            self._tables.move_to_end(study.id)
            while len(self._tables) > MOST_TABLES:
                self._tables.popitem(last=False)
        return table

    def _last_turn(self, study_id: int) -> int:
        """The id of the newest event that can change a table: most events change none."""
        query = select(Event.id).where(Event.study_id == study_id, Event.kind.not_in(QUIET)).order_by(Event.id.desc()).limit(1)
        with self._reads() as session:
            return session.scalar(query) or 0

    def _results(self, study_id: int, known: Mapping[int, tuple[Stamp, Result]]) -> dict[int, tuple[Stamp, Result]]:
        """The trials in their order with what a table asks of them, by id; read are those that have changed since they were `known`. Ten
        thousand of them ran in few environments, so each text is read once."""
        environment = cast(Trial.environment, Text)
        asked = (Trial.name, Trial.seed, Trial.state, Trial.reason, Trial.metrics, Trial.run, Trial.dataset_digest, environment)
        stamp = (Trial.state, Trial.run, Trial.finished)
        read = cache(lambda text: json.loads(text) if text else None)
        of_study = Trial.study_id == study_id
        with self._reads() as session:
            stamps = {
                each[0]: tuple(each[1:]) for each in session.execute(select(Trial.id, *stamp).where(of_study).order_by(Trial.position))
            }
            changed = [each for each, found in stamps.items() if each not in known or known[each][0] != found]
            wanted = of_study if len(changed) > MOST_NAMED else Trial.id.in_(changed)
            news = {
                each: Result(name, seed, TrialState(state), reason, metrics, run, digest, read(text))
                for each, name, seed, state, reason, metrics, run, digest, text in session.execute(select(Trial.id, *asked).where(wanted))
            }
        return {
            each: (found, news[each] if each in news else known[each][1]) for each, found in stamps.items() if each in news or each in known
        }

    def latest_of_tables(self) -> list[Study]:
        """The newest finished study of each shipped table at each scale, oldest first."""
        return self.store.latest_studies_of_tables()

    def studies_of_table(self, table: str, limit: int) -> list[Study]:
        """Newest first."""
        query = select(Study).where(Study.presentation["table"].as_string() == table).order_by(Study.id.desc()).limit(limit)
        with self._reads() as session:
            return list(session.scalars(query))

    # --- trials

    def trial_states(self, study_id: int) -> Counter[TrialState]:
        """How many jobs (trainings and measurements) are in each state."""
        query = select(Trial.state, func.count()).where(Trial.study_id == study_id).group_by(Trial.state)
        with self._reads() as session:
            return Counter({TrialState(state): count for state, count in session.execute(query)})

    def trials(
        self, study_id: int, state: TrialState | None, names: Collection[str] | None, offset: int, limit: int
    ) -> tuple[list[Trial], int]:
        """Some of the study's jobs in their order, and how many there are. names: of these alone."""
        wanted = [Trial.study_id == study_id]
        if state is not None:
            wanted.append(Trial.state == state)
        if names is not None:
            wanted.append(Trial.name.in_(names))
        with self._reads() as session:
            total = session.scalar(select(func.count(Trial.id)).where(*wanted)) or 0
            return list(session.scalars(select(Trial).where(*wanted).order_by(Trial.position).offset(offset).limit(limit))), total

    def trial(self, study_id: int, name: str) -> tuple[Trial, Arm]:
        """A job of a study with its arm. Raises ProblemError."""
        query = select(Trial, Arm).join(Arm).where(Trial.study_id == study_id, Trial.name == name)
        with self._reads() as session:
            found = session.execute(query).one_or_none()
        if found is None:
            raise not_found("trial", name)
        return found[0], found[1]

    def trial_by_id(self, trial_id: int) -> Trial | None:
        """A job of any study."""
        with self._reads() as session:
            return session.get(Trial, trial_id)

    def measurements_of(self, study_id: int, kind: str) -> list[Trial]:
        """Measurements of a kind, in their order."""
        query = select(Trial).where(Trial.study_id == study_id, Trial.role == MEASUREMENT).order_by(Trial.position)
        with self._reads() as session:
            return [trial for trial in session.scalars(query) if trial.measurement and trial.measurement["kind"] == kind]

    def points(self, trial: Trial) -> dict[str, dict[int, float]]:
        """All metrics of a trial by epoch."""
        found: dict[str, dict[int, float]] = {}
        query = select(Point.name, Point.epoch, Point.value).where(Point.trial_id == trial.id).order_by(Point.epoch)
        with self._reads() as session:
            for name, epoch, value in session.execute(query):
                found.setdefault(name, {})[epoch] = value
        return found

    def epochs(self, study_id: int, trials: Collection[str], metric: str) -> dict[str, dict[int, float]]:
        """A metric by epoch of these trials, by their names."""
        found: dict[str, dict[int, float]] = {}
        query = (
            select(Trial.name, Point.epoch, Point.value)
            .join(Trial)
            .where(Trial.study_id == study_id, Trial.name.in_(trials), Point.name == metric)
            .order_by(Trial.position, Point.epoch)
        )
        with self._reads() as session:
            for name, epoch, value in session.execute(query):
                found.setdefault(name, {})[epoch] = value
        return found

    def bars(self, study_id: int, limit: int) -> tuple[list[Bar], int]:
        """The jobs that ran here and started last, in the order of their starts, and how many ran in all."""
        ran = (Trial.study_id == study_id, Trial.started.is_not(None), Trial.state != TrialState.CACHED)
        device = Trial.environment["device"].as_string()
        query = select(Trial.name, Trial.title, Trial.role, Trial.state, Trial.started, Trial.finished, device).where(*ran)
        now = self.store.now()
        with self._reads() as session:
            total = session.scalar(select(func.count(Trial.id)).where(*ran)) or 0
            found = session.execute(query.order_by(Trial.started.desc(), Trial.position.desc()).limit(limit)).all()
        bars = [
            Bar(name, title, role, TrialState(state), started, ended or now, where or "")
            for name, title, role, state, started, ended, where in reversed(found)
            if started is not None
        ]
        return bars, total

    # --- what goes on

    def busy(self) -> list[Study]:
        """Studies that are not at rest, oldest first."""
        query = select(Study).where(Study.state.in_(BUSY)).order_by(Study.id)
        with self._reads() as session:
            return list(session.scalars(query))

    def running_trials(self, limit: int) -> list[Trial]:
        """Jobs that train or measure now, oldest first."""
        query = select(Trial).where(Trial.state == TrialState.RUNNING).order_by(Trial.started).limit(limit)
        with self._reads() as session:
            return list(session.scalars(query))

    def heartbeats(self) -> list[Heartbeat]:
        """The loops that were ever seen."""
        return self.store.heartbeats()

    def untold(self) -> int:
        """How many messages MLflow has yet to be told."""
        with self._reads() as session:
            return session.scalar(select(func.count(Outbox.id))) or 0


def _progress(counts: Counter[TrialState], parts: float, pace: float | None) -> Progress:
    total, ended = sum(counts.values()), sum(count for state, count in counts.items() if state.kept or state == TrialState.FAILED)
    share = (ended + parts) / total if total else 0.0
    left = (total - ended - parts) / pace if pace else None
    return Progress(counts, min(1.0, share), left)
