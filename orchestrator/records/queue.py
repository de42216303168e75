"""Who may have devices: grants as drivers see them, priorities and pauses as people set them, and what the broker decides from.

A trial is *shared* while an equal one has its devices, or has finished: then it waits for those results, and needs no devices.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, bindparam, delete, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from orchestrator import machine
from orchestrator.machine import StudyState, TrialState
from orchestrator.records.leases import LEASE_SECONDS, Known, holds, know
from orchestrator.records.patience import patient
from orchestrator.records.queries import Queries
from orchestrator.records.rows import served
from orchestrator.records.schema import MEASUREMENT, DeviceGrant, Event, Lease, Need, Place, Study, Trial
from orchestrator.records.unit import Units

OPEN_STUDIES = (StudyState.QUEUED, StudyState.RUNNING)
_BEHIND_ALL = 2**31  # a position in a study


# Asked ten times a second: made once.
_LAST_CHANGE = select(select(func.max(Event.id)).scalar_subquery(), select(func.max(DeviceGrant.granted)).scalar_subquery())
_CHANGED = select(
    or_(
        exists().where(Event.id > bindparam("event"), Event.kind.in_(("study", "trial", "trials"))),
        exists().where(DeviceGrant.granted > bindparam("granted")),
    )
)


@dataclass(frozen=True)
class WaitingTrial:
    """A trial that is ready and has no devices yet. position: in its study. epoch: the last that is recorded, of `epochs`."""

    id: int
    study_id: int
    position: int
    epoch: int
    epochs: int | None


@dataclass(frozen=True)
class GrantedTrial:
    """A trial with its devices. state: ready until its process is there. held: its driver has claimed it. together: how many trials of its
    group have them, it among them."""

    id: int
    study_id: int
    state: TrialState
    epoch: int
    epochs: int | None
    nodes: tuple[str, ...]
    granted: int
    leaving: int | None
    points: int
    held: bool
    together: int = 1


@dataclass(frozen=True)
class OpenStudy:
    """A study that is not over, as the broker looks at it."""

    id: int
    owner: str
    priority: int
    paused: bool
    created: int
    overtaken: int | None


@dataclass(frozen=True)
class Asked:
    """What a study's spec asks for, which does not change. resources: of each of its trials."""

    resources: Mapping[str, Any]
    dataset: str
    scale: str


class Queue(Queries, Units):
    """Grants, wishes to leave, and places in the queue."""

    # --- for drivers

    @patient
    def granted_trials(self, study_id: int, without: Iterable[str] = ()) -> list[Trial]:
        """The trials that a driver may start, in the order in which they were granted."""
        query = select(Trial).join(DeviceGrant, DeviceGrant.trial_id == Trial.id)
        query = query.where(DeviceGrant.study_id == study_id, Trial.state == TrialState.READY, Trial.name.not_in(list(without)))
        query = query.where(DeviceGrant.beside.is_(None))
        with self._reads() as session:
            return list(session.scalars(query.order_by(DeviceGrant.granted, Trial.position)))

    @patient
    def companions(self, trial: Trial, most: int) -> tuple[int, list[Trial]]:
        """How many more trials may share a granted one's devices; and trials of its teacher and seed that wait for devices, with what they
        train, in the study's order. One that was lost before is tried alone."""
        with self._reads() as session:
            grant = session.get(DeviceGrant, trial.id)
            room = grant.members - 1 if grant and grant.beside is None and grant.leaving is None else 0
            if room < 1:
                return 0, []
            waiting = select(Trial).where(Trial.study_id == trial.study_id, Trial.state == TrialState.READY, Trial.key.is_not(None))
            waiting = waiting.where(Trial.teacher == trial.teacher, Trial.seed == trial.seed, Trial.role != MEASUREMENT, Trial.losses == 0)
            waiting = waiting.where(~exists().where(DeviceGrant.trial_id == Trial.id), ~_shared(self.now())).order_by(Trial.position)
            return room, list(session.scalars(waiting.limit(most)))

    @patient
    def share_devices(self, study_id: int, attempt: int, name: str, others: Sequence[str]) -> list[str]:
        """Trials that wait for devices have those of a granted one from now on, beside it. Gives which: the broker may have been first.
        Raises Superseded."""
        try:
            with self._unit(study_id, attempt) as unit:
                leader = unit.trial(name)
                grant = unit.session.get(DeviceGrant, leader.id)
                if grant is None or grant.leaving is not None:
                    return []
                waiting = [trial for trial in map(unit.trial, others) if trial.state == TrialState.READY]
                free = [trial for trial in waiting if unit.session.get(DeviceGrant, trial.id) is None]
                for trial in free:
                    beside = DeviceGrant(trial_id=trial.id, study_id=study_id, nodes=list(grant.nodes), granted=unit.now, beside=leader.id)
                    unit.session.add(beside)
                unit.session.flush()
                return [trial.name for trial in free]
        except IntegrityError:  # the broker gave one of them devices in the same moment
            return []

    @patient
    def leaving_trials(self, study_id: int) -> dict[str, int]:
        """The trials that are asked to make room, and when they were."""
        query = select(Trial.name, DeviceGrant.leaving).join(DeviceGrant, DeviceGrant.trial_id == Trial.id)
        with self._reads() as session:
            rows = session.execute(query.where(DeviceGrant.study_id == study_id, DeviceGrant.leaving.is_not(None)))
            return {name: leaving for name, leaving in rows if leaving is not None}

    @patient
    def is_shared(self, study_id: int) -> bool:
        """Whether a ready trial of the study waits for the results of an equal one."""
        with self._reads() as session:
            query = select(Trial.id).where(Trial.study_id == study_id, Trial.state == TrialState.READY, _shared(self.now()))
            return session.scalar(query.limit(1)) is not None

    @patient
    def served_trials(self, study_id: int, since: int | None = None, names: Sequence[str] | None = None) -> list[Trial]:
        """The ready trials of a study of which an equal has finished, in the study's order: those whose equal did so since then
        (milliseconds since 1970), or those of these names; all of them costs a look at every trial that is ready."""
        mine = select(Trial).where(Trial.study_id == study_id, Trial.state == TrialState.READY, served()).order_by(Trial.position)
        with self._reads() as session:
            if names is not None:
                return list(session.scalars(mine.where(Trial.name.in_(names))))
            if since is None:
                return list(session.scalars(mine))
            # Two statements, from the few that finished to their equals: in one, SQLite goes through all that are ready.
            ended = select(Trial.key).where(Trial.finished >= since, Trial.state == TrialState.FINISHED)
            keys = set(session.scalars(ended)) - {None}
            equals = select(Trial.id, Trial.study_id, Trial.state).where(Trial.key.in_(keys))
            ready = [id for id, study, state in session.execute(equals) if (study, state) == (study_id, TrialState.READY)] if keys else []
            return list(session.scalars(mine.where(Trial.id.in_(ready)))) if ready else []

    @patient
    def know_trials(self, study_id: int, attempt: int, known: Mapping[str, Known]) -> None:
        """Writes down what ready trials are to train. Raises Superseded."""
        with self._unit(study_id, attempt) as unit:
            for name, each in known.items():
                trial = unit.trial(name)
                if trial.state == TrialState.READY:
                    know(unit.session, trial, each)

    @patient
    def preempt_trial(self, study_id: int, attempt: int, name: str, fence: int) -> None:
        """A trial has made room after its checkpoint. Raises LeaseLost."""
        with self._unit(study_id, attempt) as unit:
            trial = unit.trial(name)
            if holds(unit, trial, fence):
                unit.note(f"{trial.title} makes room and goes on later")
                unit.advance(machine.TrialPreempted(name))

    # --- for people

    def set_priority(self, study_id: int, priority: int) -> Study:
        """Raises NoSuchStudy."""
        with self._unit(study_id) as unit:
            if unit.study.priority != priority:
                unit.study.priority = priority
                unit.note(f"priority {priority}")
        return self.study(study_id)

    def set_paused(self, study_id: int, paused: bool) -> Study:
        """A paused study is granted nothing, and its trials make room at their next checkpoints. Raises NoSuchStudy."""
        with self._unit(study_id) as unit:
            if unit.study.paused != paused:
                unit.study.paused = paused
                unit.note("paused: its trials make room, and none starts" if paused else "it goes on")
        return self.study(study_id)

    def places(self) -> list[tuple[Place, Study]]:
        """The studies that wait for devices, the next one first; without their specs."""
        with self._reads() as session:
            query = select(Place, Study).join(Study, Study.id == Place.study_id).where(Study.state.in_(OPEN_STUDIES))
            return [(place, study) for place, study in session.execute(query.order_by(Place.number))]

    def place(self, study_id: int) -> Place | None:
        """Where a study stands in the queue; None where no trial of it waits for devices."""
        with self._reads() as session:
            return session.scalar(select(Place).join(Study).where(Place.study_id == study_id, Study.state.in_(OPEN_STUDIES)))

    def devices_held(self) -> dict[int, int]:
        """How many trials of each study have devices; a group counts as one."""
        with self._reads() as session:
            query = select(DeviceGrant.study_id, func.count()).where(DeviceGrant.beside.is_(None)).group_by(DeviceGrant.study_id)
            return dict(session.execute(query).tuples().all())

    # --- for the broker

    def open_studies(self) -> list[OpenStudy]:
        """Studies that are not over and have trials that wait for devices, or hold them."""
        concerned = or_(
            exists().where(DeviceGrant.study_id == Study.id), exists().where(Trial.study_id == Study.id, Trial.state == TrialState.READY)
        )
        query = select(Study.id, Study.owner, Study.priority, Study.paused, Study.created, Study.overtaken).order_by(Study.id)
        with self._reads() as session:
            rows = session.execute(query.where(Study.state.in_((*OPEN_STUDIES, StudyState.CANCELLING)), concerned))
            return [OpenStudy(row[0], row[1] or "", *row[2:]) for row in rows]

    def asked_for(self, study_ids: Iterable[int]) -> dict[int, Asked]:
        """What these studies' specs ask for."""
        spec = Study.spec
        query = select(Study.id, spec["resources"], spec["dataset"].as_string(), spec["scale"].as_string())
        with self._reads() as session:
            return {id: Asked(*asked) for id, *asked in session.execute(query.where(Study.id.in_(list(study_ids))))}

    def last_change(self) -> tuple[int, int]:
        """The last event, and when devices were granted last: what `changed_since` is asked with."""
        with self._reads() as session:
            event, granted = session.execute(_LAST_CHANGE).one()
        return event or 0, granted or 0

    def changed_since(self, change: tuple[int, int]) -> bool:
        """Whether a study or a trial has changed its state, or devices were granted, since then. Reads the events since then alone."""
        event, granted = change
        with self._reads() as session:
            return bool(session.scalar(_CHANGED, {"event": event, "granted": granted}))

    def waiting_trials(self, most: int) -> list[WaitingTrial]:
        """The first `most` trials of each study that wait for devices, in the study's order."""
        with self._reads() as session:
            return [WaitingTrial(*row) for row in session.execute(_waiting(most), {"now": self.now()})]

    def all_granted(self) -> list[GrantedTrial]:
        """Every trial with its devices, those that may start among them; of a group the one that the others are beside."""
        with self._reads() as session:
            rows = session.execute(_granted())
            return [
                GrantedTrial(id, study, state, epoch, epochs, tuple(nodes), since, leaving, points, held, 1 + others)
                for id, study, state, epoch, epochs, nodes, since, leaving, points, held, others in rows
            ]

    def makeup(self, study_id: int) -> dict[int, tuple[int | None, list[int]]]:
        """Of each trial of a study, in its order: its arm (None for a measurement), and the trials that it needs."""
        with self._reads() as session:
            trials = select(Trial.id, Trial.arm_id, Trial.role).where(Trial.study_id == study_id).order_by(Trial.position)
            found: dict[int, tuple[int | None, list[int]]] = {
                trial_id: (None if role == MEASUREMENT else arm_id, []) for trial_id, arm_id, role in session.execute(trials)
            }
            needs = select(Need.trial_id, Need.needed_id).join(Trial, Trial.id == Need.trial_id).where(Trial.study_id == study_id)
            for trial_id, needed_id in session.execute(needs):
                found[trial_id][1].append(needed_id)
        return found

    def carry_out(
        self,
        grants: Mapping[int, Sequence[str]],
        leave: Iterable[int],
        members: Mapping[int, int] = MappingProxyType({}),
        points: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        """Writes down grants (trial -> its nodes) and wishes to leave; a trial that was claimed by nobody just loses its grant, and one of
        a group leaves with the others. members: of granted trials, how many may share the devices, where that is more than one. points: by
        trial what waiting had added to its study's priority, where it had."""
        now = self.now()
        asked = list(leave)
        with self._writes.begin() as session:
            over = select(Trial.id).where(Trial.id == DeviceGrant.trial_id, Trial.state.not_in((TrialState.READY, TrialState.RUNNING)))
            session.execute(delete(DeviceGrant).where(over.exists()))
            open_ = select(Trial.id, Trial.study_id).join(Study).where(Study.state.in_(OPEN_STUDIES), Study.paused.is_(False))
            had = exists().where(DeviceGrant.trial_id == Trial.id)  # a driver may have taken it along with another
            may = dict(session.execute(open_.where(Trial.id.in_(grants), Trial.state == TrialState.READY, ~had)).tuples().all())
            new = [
                {
                    "trial_id": trial,
                    "study_id": may[trial],
                    "nodes": list(nodes),
                    "granted": now,
                    "members": members.get(trial, 1),
                    "points": points.get(trial, 0),
                }
                for trial, nodes in grants.items()
                if trial in may
            ]
            if new:
                session.execute(insert(DeviceGrant), new)
            if asked:
                claimed = exists().where(Lease.trial_id == DeviceGrant.trial_id)
                running = exists().where(Trial.id == DeviceGrant.trial_id, Trial.state == TrialState.RUNNING)
                theirs = DeviceGrant.trial_id.in_(asked)
                session.execute(delete(DeviceGrant).where(theirs, ~claimed, ~running))
                group = or_(theirs, DeviceGrant.beside.in_(asked))
                session.execute(update(DeviceGrant).where(group, DeviceGrant.leaving.is_(None)).values(leaving=now))

    def set_overtaken(self, since: Mapping[int, int | None]) -> None:
        """By study since when those of higher priority have had devices while it had none; None: they have not."""
        with self._writes.begin() as session:
            for study, time in since.items():
                session.execute(update(Study).where(Study.id == study).values(overtaken=time))

    def set_places(self, places: Sequence[Place]) -> None:
        """The whole queue as it stands now."""
        with self._writes.begin() as session:
            session.execute(delete(Place))
            rows = [{"study_id": p.study_id, "number": p.number, "reason": p.reason, "expected": p.expected} for p in places]
            if rows:
                session.execute(insert(Place), rows)


@cache
def _waiting(most: int) -> Select[*tuple[Any, ...]]:
    """The first `most` trials of each study that wait for devices at a time `now`; asked twice a second, so built once."""
    now, ahead = bindparam("now", type_=BigInteger), aliased(Trial)
    # Where a study's `most`th stands: so no more of it are looked at, however many wait.
    positions = select(ahead.position).where(ahead.study_id == Study.id, *_waits(ahead, now)).order_by(ahead.position)
    last = positions.limit(1).offset(most - 1).correlate(Study).scalar_subquery()
    bounds = select(Study.id, last.label("last")).where(Study.state.in_(OPEN_STUDIES), Study.paused.is_(False)).cte("bounds")
    bounds = bounds.prefix_with("MATERIALIZED")  # else SQLite looks anew for each trial
    query = select(Trial.id, Trial.study_id, Trial.position, Trial.epoch, Trial.epochs).join(bounds, bounds.c.id == Trial.study_id)
    query = query.where(Trial.position <= func.coalesce(bounds.c.last, _BEHIND_ALL), *_waits(Trial, now))
    return query.order_by(Trial.study_id, Trial.position)


@cache
def _granted() -> Select[*tuple[Any, ...]]:
    """Every trial with its devices but those beside another, and how many are beside it."""
    held = exists().where(Lease.trial_id == Trial.id)
    fields = (Trial.id, Trial.study_id, Trial.state, Trial.epoch, Trial.epochs)
    of_grant = (DeviceGrant.nodes, DeviceGrant.granted, DeviceGrant.leaving, DeviceGrant.points)
    other = aliased(DeviceGrant)
    others = select(func.count()).where(other.beside == DeviceGrant.trial_id).scalar_subquery()
    query = select(*fields, *of_grant, held, others).join(DeviceGrant, DeviceGrant.trial_id == Trial.id)
    query = query.where(Trial.state.in_((TrialState.READY, TrialState.RUNNING)), DeviceGrant.beside.is_(None))
    return query.order_by(Trial.id)


Now = int | ColumnElement[int]  # milliseconds since 1970


def _waits(trial: type[Trial], now: Now) -> tuple[ColumnElement[bool], ...]:
    """Of rows of `trial`: it is ready, has no devices, and is to have some."""
    granted = exists().where(DeviceGrant.trial_id == trial.id)
    return trial.state == TrialState.READY, ~granted, ~_shared(now, trial)


def _shared(now: Now, trial: type[Trial] = Trial) -> ColumnElement[bool]:
    """Of rows of `trial`: an equal one has its devices, or has finished."""
    other = aliased(Trial)
    equal = other.key == trial.key, other.folder == trial.folder, other.id != trial.id
    granted = exists().where(DeviceGrant.trial_id == other.id)
    at_work = exists().where(Lease.folder == trial.folder, Lease.trial_id != trial.id, Lease.heartbeat > now - LEASE_SECONDS * 1000)
    return or_(select(other.id).where(*equal, or_(other.state == TrialState.FINISHED, granted)).exists(), at_work)
