"""What a schedule does now, as one pure function: how it stands and the time in, a decision out. No database, no clock.

a run waits and nothing of the schedule runs     -> Release it
nothing is due, or the schedule is paused        -> None
due, long ago, and missed times are not wanted   -> Deal: skipped, once for all of them
due, and nothing of the schedule runs            -> Deal: submitted, once for all missed times
due, and a study of an earlier time still runs   -> by the overlap policy: skipped, waiting, or Replace and then submitted
"""

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.schedules import times

GRACE_SECONDS = 60  # so late a time is on time: the service has been busy


class Misfire(StrEnum):
    """What becomes of times that passed while nothing looked."""

    ONCE = "once"  # any number of them makes one run
    SKIP = "skip"  # none runs


class Overlap(StrEnum):
    """What a due time does while a study of an earlier one is not at rest."""

    SKIP = "skip"  # nothing
    QUEUE = "queue"  # its run waits; one may wait
    REPLACE = "replace"  # the study is cancelled, and the new one submitted


class Outcome(StrEnum):
    """What became of a due time."""

    SUBMITTED = "submitted"  # it has a study
    WAITING = "waiting"  # for the study of an earlier time
    SKIPPED = "skipped"
    REPLACED = "replaced"  # its study was asked to stop for the sake of a later time


@dataclass(frozen=True)
class Standing:
    """A schedule as a decision needs to know it. Times in milliseconds since 1970."""

    cron: str
    zone: str
    misfire: Misfire
    overlap: Overlap
    paused: bool
    due: int  # the first time that is not dealt with
    running: tuple[int, ...] = ()  # its studies that are not at rest and were not asked to stop
    stopping: tuple[int, ...] = ()  # its studies that are being cancelled
    waiting: int | None = None  # due time of the run that waits


@dataclass(frozen=True)
class Deal:
    """The time `due`, and all up to `following` with it, becomes one run with this outcome."""

    due: int
    times: int  # how many due times it stands for
    following: int  # the next due time
    outcome: Outcome
    reason: str | None = None


@dataclass(frozen=True)
class Release:
    """The run that waited since `due` is submitted."""

    due: int


@dataclass(frozen=True)
class Replace:
    """These studies are cancelled; the due time is dealt with after that."""

    studies: tuple[int, ...]


Decision = Deal | Release | Replace | None


def decide(schedule: Standing, now: int) -> Decision:
    """What is to be done next; carried out, ask again until there is nothing."""
    if schedule.paused:
        return None
    busy = schedule.running + schedule.stopping
    if schedule.waiting is not None and not busy:
        return Release(schedule.waiting)
    if schedule.due > now:
        return None
    too_late = now - GRACE_SECONDS * 1000
    if schedule.misfire == Misfire.SKIP and schedule.due < too_late:
        return _deal(schedule, too_late, Outcome.SKIPPED, "missed while the service was down")
    if not busy:
        return _deal(schedule, now, Outcome.SUBMITTED)
    if schedule.overlap == Overlap.REPLACE:
        return Replace(schedule.running) if schedule.running else _deal(schedule, now, Outcome.SUBMITTED)
    if schedule.overlap == Overlap.QUEUE and schedule.waiting is None:
        return _deal(schedule, now, Outcome.WAITING, f"waits for study {busy[0]}")
    waits = f", and the run of {times.told(schedule.waiting, schedule.zone)} waits already" if schedule.waiting is not None else ""
    return _deal(schedule, now, Outcome.SKIPPED, f"study {busy[0]} of an earlier time is still running{waits}")


def _deal(schedule: Standing, until: int, outcome: Outcome, reason: str | None = None) -> Deal:
    """One run for the due time and every later one up to `until`."""
    count = times.count_until(schedule.cron, schedule.zone, schedule.due, until)
    if count > 1 and outcome in (Outcome.SUBMITTED, Outcome.WAITING):
        many = f"{count} or more" if count == times.COUNT_AT_MOST else str(count)
        reason = "; ".join(filter(None, [f"{many} times had come by then and make one run", reason]))
    return Deal(schedule.due, count, times.after(schedule.cron, schedule.zone, max(until, schedule.due)), outcome, reason)
