"""From schedules in the store to answers, and from refusals to problems."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from api.access.callers import refuse_others
from api.problems import ProblemError, not_found
from api.schedules.schemas import MovedAnswer, NewSchedule, RunAnswer, ScheduleAnswer, ScheduleDetail, ScheduleList
from orchestrator.access.audit import Audit
from orchestrator.access.tokens import Holder
from orchestrator.records.schema import Schedule
from orchestrator.records.store import Store
from orchestrator.schedules import times
from orchestrator.schedules.store import NoSuchSchedule, RunOf, Schedules
from studies.problems import Problem, SpecError, problems_of
from studies.submission import read_submission

NEXT_TIMES = 3
T = TypeVar("T")


def read_schedule(data: Any) -> NewSchedule:
    """What is asked for, study checked. Raises ProblemError with every field that is wrong, those of the study under `study`."""
    problems: list[Problem] = []
    if not isinstance(data, dict):
        raise _invalid([Problem("", f"a schedule is a mapping with study and cron; this is {type(data).__name__}")])
    try:
        wanted = NewSchedule.model_validate(data)
    except ValidationError as error:
        problems = problems_of(error, (), NewSchedule)
    if isinstance(data.get("study"), dict):
        try:
            read_submission(data["study"])
        except SpecError as error:
            problems += [Problem(f"study.{p.field}" if p.field else "study", p.message) for p in error.problems]
    if problems:
        raise _invalid(problems)
    return wanted


def _invalid(problems: list[Problem]) -> ProblemError:
    first = f"{problems[0].field}: {problems[0].message}" if problems[0].field else problems[0].message
    detail = first if len(problems) == 1 else f"{first} (and {len(problems) - 1} more)"
    return ProblemError(422, "invalid-schedule", "The schedule is not valid", detail, problems)


class ScheduleService:
    """What can be done with schedules. Every method raises ProblemError where it cannot."""

    def __init__(self, store: Store) -> None:
        self.store, self.schedules, self.audit = store, Schedules(store), Audit(store)

    def add(self, wanted: NewSchedule, holder: Holder) -> ScheduleDetail:
        """The schedule that was made."""
        made = self.schedules.add(
            wanted.study,
            wanted.cron,
            wanted.tz,
            wanted.misfire,
            wanted.overlap,
            wanted.fresh,
            wanted.name,
            wanted.source,
            holder.owner,
        )
        self.audit.note(holder, "schedule.add", f"schedule {made.id}", name=made.name, cron=made.cron)
        return self.detail(made.id)

    def all(self) -> ScheduleList:
        """Those that were not removed."""
        return ScheduleList(items=[self._answer(each, self.schedules.runs(each.id, 1)) for each in self.schedules.all()])

    def detail(self, schedule_id: int) -> ScheduleDetail:
        """One schedule with its last runs."""
        schedule = self._known(self.schedules.schedule, schedule_id)
        runs = self.schedules.runs(schedule_id)
        return ScheduleDetail(**self._answer(schedule, runs).model_dump(), spec=schedule.spec, runs=[_run(each) for each in runs])

    def pause(self, schedule_id: int, holder: Holder) -> ScheduleDetail:
        """Nothing of it is submitted until it is resumed."""
        self._change("pause", self.schedules.pause, schedule_id, holder)
        return self.detail(schedule_id)

    def resume(self, schedule_id: int, holder: Holder) -> ScheduleDetail:
        """It is due from now on."""
        self._change("resume", self.schedules.resume, schedule_id, holder)
        return self.detail(schedule_id)

    def remove(self, schedule_id: int, holder: Holder) -> None:
        """It is never due again."""
        self._change("remove", self.schedules.remove, schedule_id, holder)

    def _change(self, wish: str, change: Callable[[int], object], schedule_id: int, holder: Holder) -> None:
        refuse_others(holder, self._known(self.schedules.schedule, schedule_id).owner, f"schedule {schedule_id}")
        self._known(change, schedule_id)
        self.audit.note(holder, f"schedule.{wish}", f"schedule {schedule_id}")

    def _known(self, ask: Callable[[int], T], schedule_id: int) -> T:
        try:
            return ask(schedule_id)
        except NoSuchSchedule:
            raise not_found("schedule", str(schedule_id)) from None

    def _answer(self, schedule: Schedule, runs: list[RunOf]) -> ScheduleAnswer:
        return ScheduleAnswer(
            id=schedule.id,
            name=schedule.name,
            owner=schedule.owner,
            source=schedule.source,
            dataset=schedule.spec["dataset"],
            scale=schedule.spec["scale"],
            cron=schedule.cron,
            tz=schedule.zone,
            misfire=schedule.misfire,
            overlap=schedule.overlap,
            fresh=schedule.spec["force"],
            paused=schedule.paused,
            created=times.from_milliseconds(schedule.created),
            next=[] if schedule.paused else _next_times(schedule),
            last=_run(runs[0]) if runs else None,
        )


def _next_times(schedule: Schedule) -> list[datetime]:
    """The time that is not dealt with, and those after it."""
    upcoming = [schedule.due, *times.upcoming(schedule.cron, schedule.zone, schedule.due, NEXT_TIMES - 1)]
    return [times.from_milliseconds(each).astimezone(ZoneInfo(schedule.zone)) for each in upcoming]


def _run(found: RunOf) -> RunAnswer:
    run = found.run
    return RunAnswer(
        due=times.from_milliseconds(run.due),
        times=run.times,
        outcome=run.outcome.value,
        reason=run.reason,
        study=run.study_id,
        state=found.state.value if found.state else None,
        against=run.against,
        moved=None if run.moved is None else [MovedAnswer(**each) for each in run.moved],
    )
