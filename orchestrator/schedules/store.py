"""Schedules in the database: queries, and units of work that are one transaction each.

Every unit that acts holds the schedule's row, reads how it stands, decides and writes, all before it commits: a process that dies at any
line leaves a due time either not dealt with, and the next one deals with it, or dealt with, study included. What is dealt with is a row
(schedule, due), of which the database allows one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, sessionmaker

from orchestrator.machine import StudyState
from orchestrator.records.new_study import Rows, add_study, rows_of
from orchestrator.records.schema import Schedule, ScheduleRun, Study
from orchestrator.records.store import Store
from orchestrator.schedules import times
from orchestrator.schedules.due import Deal, Decision, Misfire, Outcome, Overlap, Release, Replace, Standing, decide
from orchestrator.schedules.settle import settle
from studies.problems import SpecError
from studies.submission import read_submission, spelled_out

_AT_REST = tuple(state for state in StudyState if state.final)
_BUSY = tuple(state for state in StudyState if not state.final)


class NoSuchSchedule(LookupError):
    """There is no schedule with this id, or it was removed."""


@dataclass(frozen=True)
class RunOf:
    """A run with the state of its study, if it has one."""

    run: ScheduleRun
    state: StudyState | None


class Schedules:
    """The schedules of a store, on its clock."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._reads = sessionmaker(store.engine, expire_on_commit=False)
        self._writes = sessionmaker(store.engine.execution_options(retort_writes=True), expire_on_commit=False)

    # --- for those who ask

    def add(
        self,
        document: Mapping[str, Any],
        cron: str,
        zone: str = "UTC",
        misfire: Misfire = Misfire.ONCE,
        overlap: Overlap = Overlap.SKIP,
        fresh: bool = False,
        name: str | None = None,
        source: str | None = None,
        owner: str | None = None,
    ) -> Schedule:
        """A schedule that is due from now on. document: the study or table as it is submitted. fresh: its studies train again where
        equal trials are finished. Raises BadTime, SpecError."""
        cron, zone, now = times.check_cron(cron), times.check_zone(zone), self.store.now()
        frozen = {**spelled_out(document), **({"force": True} if fresh else {})}
        spec = read_submission(frozen).spec
        with self._writes.begin() as session:
            schedule = Schedule(
                name=name or spec.name,
                source=source,
                owner=owner,
                document=frozen,
                spec=spec.model_dump(mode="json"),
                cron=cron,
                zone=zone,
                misfire=misfire,
                overlap=overlap,
                paused=False,
                due=times.after(cron, zone, now),
                created=now,
            )
            session.add(schedule)
        return schedule

    def all(self) -> list[Schedule]:
        """Those that were not removed, oldest first."""
        with self._reads() as session:
            return list(session.scalars(select(Schedule).where(Schedule.removed.is_(None)).order_by(Schedule.id)))

    def schedule(self, schedule_id: int) -> Schedule:
        """Raises NoSuchSchedule."""
        with self._reads() as session:
            return _schedule(session, schedule_id)

    def runs(self, schedule_id: int, limit: int = 50) -> list[RunOf]:
        """What became of its due times, newest first."""
        query = select(ScheduleRun, Study.state).outerjoin(Study, ScheduleRun.study_id == Study.id)
        with self._reads() as session:
            found = session.execute(query.where(ScheduleRun.schedule_id == schedule_id).order_by(ScheduleRun.due.desc()).limit(limit))
            return [RunOf(run, state) for run, state in found]

    def run_of_study(self, study_id: int) -> tuple[Schedule, ScheduleRun] | None:
        """The run that made a study, with its schedule (removed or not); None for a study that a person submitted."""
        query = select(Schedule, ScheduleRun).join(ScheduleRun, ScheduleRun.schedule_id == Schedule.id)
        with self._reads() as session:
            row = session.execute(query.where(ScheduleRun.study_id == study_id)).one_or_none()
            return (row[0], row[1]) if row else None

    def pause(self, schedule_id: int) -> Schedule:
        """Nothing of it is submitted until it is resumed. Raises NoSuchSchedule."""
        with self._writes.begin() as session:
            schedule = _schedule(session, schedule_id, lock=True)
            schedule.paused = True
        return schedule

    def resume(self, schedule_id: int) -> Schedule:
        """It is due from now on; times of the pause were not wanted and are not missed. Raises NoSuchSchedule."""
        with self._writes.begin() as session:
            schedule = _schedule(session, schedule_id, lock=True)
            if schedule.paused:
                last = session.scalar(select(func.max(ScheduleRun.due)).where(ScheduleRun.schedule_id == schedule_id)) or 0
                schedule.paused = False
                schedule.due = times.after(schedule.cron, schedule.zone, max(last, self.store.now()))
        return schedule

    def remove(self, schedule_id: int) -> None:
        """It is never due again; its studies stay, and one that runs goes on. Raises NoSuchSchedule."""
        with self._writes.begin() as session:
            schedule = _schedule(session, schedule_id, lock=True)
            schedule.removed = self.store.now()
            waiting = _waiting(session, schedule_id)
            if waiting:
                waiting.outcome, waiting.reason = Outcome.SKIPPED, "the schedule was removed while it waited"

    # --- for the loop

    def pressing(self) -> list[int]:
        """Schedules that may have something to do: a due time, or a run that waits."""
        waits = select(ScheduleRun.schedule_id).where(ScheduleRun.outcome == Outcome.WAITING)
        query = select(Schedule.id).where(Schedule.removed.is_(None), Schedule.paused.is_(False))
        with self._reads() as session:
            return list(session.scalars(query.where(or_(Schedule.due <= self.store.now(), Schedule.id.in_(waits))).order_by(Schedule.id)))

    def act(self, schedule_id: int) -> Decision:
        """Carries out what is to be done next, and gives it; the studies of a Replace are left to be cancelled."""
        now = self.store.now()
        study = self._study_due(schedule_id, now)
        with self._writes.begin() as session:
            schedule = session.get(Schedule, schedule_id, with_for_update=True)
            if schedule is None or schedule.removed is not None:
                return None
            decision = decide(_standing(session, schedule), now)
            match decision:
                case Deal():
                    run = ScheduleRun(schedule_id=schedule_id, due=decision.due, times=decision.times, reason=decision.reason, time=now)
                    run.outcome = decision.outcome
                    session.add(run)
                    schedule.due = decision.following
                    if run.outcome == Outcome.SUBMITTED:
                        _submit(session, schedule, run, now, study)
                case Release():
                    run = session.get_one(ScheduleRun, (schedule_id, decision.due))
                    run.outcome = Outcome.SUBMITTED
                    _submit(session, schedule, run, now, study)
                case Replace():
                    for run in session.scalars(select(ScheduleRun).where(ScheduleRun.study_id.in_(decision.studies))):
                        run.outcome, run.reason = Outcome.REPLACED, f"by the run of {times.told(schedule.due, schedule.zone)}"
        return decision

    def _study_due(self, schedule_id: int, now: int) -> Rows | SpecError | None:
        """The study that `act` will most likely submit: put together here, as thousands of trials take a while and the database is not to
        be kept from others meanwhile. None where it will submit none."""
        with self._reads() as session:
            schedule = session.get(Schedule, schedule_id)
            decision = decide(_standing(session, schedule), now) if schedule and schedule.removed is None else None
        submits = isinstance(decision, Release) or (isinstance(decision, Deal) and decision.outcome == Outcome.SUBMITTED)
        return _study(schedule) if schedule and submits else None

    def unsettled(self) -> list[tuple[int, int]]:
        """(schedule, due) of runs whose study came to an end that nobody has looked at."""
        query = select(ScheduleRun.schedule_id, ScheduleRun.due).join(Study, ScheduleRun.study_id == Study.id)
        unseen = or_(ScheduleRun.settled.is_(None), ScheduleRun.settled != Study.finished)
        with self._reads() as session:
            found = session.execute(query.where(Study.state.in_(_AT_REST), unseen).order_by(Study.finished))
            return [(schedule_id, due) for schedule_id, due in found]

    def settle(self, schedule_id: int, due: int) -> None:
        """Compares a run that came to its end with the one before, and says on its study what was trained and what moved."""
        with self._writes.begin() as session:
            schedule = session.get_one(Schedule, schedule_id, with_for_update=True)
            settle(session, schedule, session.get_one(ScheduleRun, (schedule_id, due), populate_existing=True), self.store.now())


def _schedule(session: Session, schedule_id: int, lock: bool = False) -> Schedule:
    schedule = session.get(Schedule, schedule_id, with_for_update=lock or None)
    if schedule is None or schedule.removed is not None:
        raise NoSuchSchedule(f"there is no schedule {schedule_id}")
    return schedule


def _waiting(session: Session, schedule_id: int) -> ScheduleRun | None:
    query = select(ScheduleRun).where(ScheduleRun.schedule_id == schedule_id, ScheduleRun.outcome == Outcome.WAITING)
    return session.scalar(query)


def _standing(session: Session, schedule: Schedule) -> Standing:
    studies: Sequence[Study] = session.scalars(
        select(Study)
        .join(ScheduleRun, ScheduleRun.study_id == Study.id)
        .where(ScheduleRun.schedule_id == schedule.id, Study.state.in_(_BUSY))
        .order_by(Study.id)
    ).all()
    waiting = _waiting(session, schedule.id)
    return Standing(
        cron=schedule.cron,
        zone=schedule.zone,
        misfire=schedule.misfire,
        overlap=schedule.overlap,
        paused=schedule.paused,
        due=schedule.due,
        running=tuple(study.id for study in studies if study.state != StudyState.CANCELLING),
        stopping=tuple(study.id for study in studies if study.state == StudyState.CANCELLING),
        waiting=waiting.due if waiting else None,
    )


def _study(schedule: Schedule) -> Rows | SpecError:
    try:
        return rows_of(read_submission(schedule.document))
    except SpecError as error:
        return error


def _submit(session: Session, schedule: Schedule, run: ScheduleRun, now: int, made: Rows | SpecError | None) -> None:
    """The run's study, made in the same transaction; a spec that is no longer valid makes none, and the run says why."""
    made = made or _study(schedule)
    if isinstance(made, SpecError):
        run.outcome, run.reason = Outcome.SKIPPED, f"its study is no longer valid: {made}"
        return
    study = add_study(session, made, now, owner=schedule.owner)
    run.study_id = study.id
