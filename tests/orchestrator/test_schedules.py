"""Schedules on real databases, with a clock that is moved by hand: none lost, none doubled, whatever dies where."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from orchestrator.machine import StudyState
from orchestrator.records.schema import ScheduleRun, Study
from orchestrator.records.store import Store
from orchestrator.schedules.due import Misfire, Outcome, Overlap
from orchestrator.schedules.loop import Cron
from orchestrator.schedules.store import NoSuchSchedule, Schedules
from tests.orchestrator.conftest import Clock, a_study

MINUTE = 60
START = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
def schedules(store: Store) -> Schedules:
    return Schedules(store)


def every_minute(schedules: Schedules, **changes: Any) -> int:
    return schedules.add(a_study().model_dump(mode="json"), "* * * * *", **changes).id


def outcomes(schedules: Schedules, schedule: int) -> list[tuple[int, str, int]]:
    """Minute after START, outcome and number of times of every run, oldest first."""
    return [(_minute(each.run), each.run.outcome.value, each.run.times) for each in reversed(schedules.runs(schedule, 1000))]


def _minute(run: ScheduleRun) -> int:
    return round((run.due / 1000 - START) / MINUTE)


def end(store: Store, study: int) -> None:
    """The study is over, without a driver."""
    store.request_cancel(study)


def minutes(store: Store, clock: Clock, count: int, between: Callable[[], None] = lambda: None) -> None:
    """The loop comes round after every minute."""
    for _ in range(count):
        clock.seconds += MINUTE
        Cron(store).step()
        between()


def end_all(store: Store) -> None:
    for study in unfinished(store):
        end(store, study.id)


def unfinished(store: Store) -> list[Study]:
    return [study for study in reversed(store.studies(limit=1000)) if not study.state.final]


def test_every_due_time_makes_one_study(store: Store, schedules: Schedules, clock: Clock) -> None:
    schedule = every_minute(schedules)
    Cron(store).step()
    assert store.studies() == []
    minutes(store, clock, 3, lambda: end_all(store))
    assert outcomes(schedules, schedule) == [(1, "submitted", 1), (2, "submitted", 1), (3, "submitted", 1)]
    assert len(store.studies()) == 3
    assert {study.name for study in store.studies()} == {"a try"}


def test_a_loop_that_comes_round_often_submits_no_more(store: Store, schedules: Schedules, clock: Clock) -> None:
    every_minute(schedules)
    clock.seconds += MINUTE
    for _ in range(5):
        Cron(store).step()
    assert len(store.studies()) == 1


def test_ten_missed_times_make_one_run(store: Store, schedules: Schedules, clock: Clock) -> None:
    schedule = every_minute(schedules)
    clock.seconds += 10 * MINUTE
    Cron(store).step()
    assert outcomes(schedules, schedule) == [(1, "submitted", 10)]
    assert schedules.runs(schedule)[0].run.reason == "10 times had come by then and make one run"
    end_all(store)
    minutes(store, clock, 1)
    assert outcomes(schedules, schedule) == [(1, "submitted", 10), (11, "submitted", 1)]


def test_missed_times_that_are_not_wanted_are_one_skipped_entry(store: Store, schedules: Schedules, clock: Clock) -> None:
    schedule = every_minute(schedules, misfire=Misfire.SKIP)
    clock.seconds += 10 * MINUTE + 30
    Cron(store).step()
    # the tenth came half a minute ago, which is no miss
    assert outcomes(schedules, schedule) == [(1, "skipped", 9), (10, "submitted", 1)]
    assert schedules.runs(schedule)[1].run.reason == "missed while the service was down"


def test_a_time_is_skipped_while_the_study_before_is_running(store: Store, schedules: Schedules, clock: Clock) -> None:
    schedule = every_minute(schedules)
    minutes(store, clock, 3)
    assert outcomes(schedules, schedule) == [(1, "submitted", 1), (2, "skipped", 1), (3, "skipped", 1)]
    assert schedules.runs(schedule)[0].run.reason == "study 1 of an earlier time is still running"
    end_all(store)
    minutes(store, clock, 1)
    assert outcomes(schedules, schedule)[-1] == (4, "submitted", 1)


def test_one_run_waits_and_starts_when_the_study_before_is_over(store: Store, schedules: Schedules, clock: Clock) -> None:
    schedule = every_minute(schedules, overlap=Overlap.QUEUE)
    minutes(store, clock, 3)
    assert outcomes(schedules, schedule) == [(1, "submitted", 1), (2, "waiting", 1), (3, "skipped", 1)]
    end(store, 1)
    Cron(store).step()
    assert outcomes(schedules, schedule) == [(1, "submitted", 1), (2, "submitted", 1), (3, "skipped", 1)]
    assert [each.run.study_id for each in schedules.runs(schedule)] == [None, 2, 1]


def test_the_study_before_is_cancelled_for_the_new_one(store: Store, schedules: Schedules, clock: Clock, tmp_path: Path) -> None:
    schedule = every_minute(schedules, overlap=Overlap.REPLACE)
    minutes(store, clock, 1)
    attempt = store.new_attempt(1)
    assert attempt
    store.start_attempt(1, 1)
    minutes(store, clock, 1)
    assert store.study(1).state == StudyState.CANCELLING
    assert outcomes(schedules, schedule) == [(1, "replaced", 1), (2, "submitted", 1)]
    minutes(store, clock, 1)  # the second never had a driver and is cancelled at once
    assert [study.state.value for study in store.studies()] == ["queued", "cancelled", "cancelling"]


def test_a_paused_schedule_is_silent_and_what_passed_is_not_made_up_for(store: Store, schedules: Schedules, clock: Clock) -> None:
    schedule = every_minute(schedules)
    schedules.pause(schedule)
    minutes(store, clock, 5)
    schedules.resume(schedule)
    assert outcomes(schedules, schedule) == []
    minutes(store, clock, 1)
    assert outcomes(schedules, schedule) == [(6, "submitted", 1)]


def test_a_removed_schedule_is_gone_and_its_studies_stay(store: Store, schedules: Schedules, clock: Clock) -> None:
    schedule = every_minute(schedules, overlap=Overlap.QUEUE)
    minutes(store, clock, 2)
    schedules.remove(schedule)
    end_all(store)
    minutes(store, clock, 2)
    assert schedules.all() == []
    for ask in (schedules.schedule, schedules.pause, schedules.resume, schedules.remove):
        with pytest.raises(NoSuchSchedule):
            ask(schedule)
    assert outcomes(schedules, schedule) == [(1, "submitted", 1), (2, "skipped", 1)]
    assert len(store.studies()) == 1


def test_a_fresh_schedule_forces_its_studies(store: Store, schedules: Schedules, clock: Clock) -> None:
    every_minute(schedules, fresh=True)
    minutes(store, clock, 1)
    assert store.study(1).spec["force"] is True


def test_a_spec_that_is_no_longer_valid_is_told_and_the_others_go_on(store: Store, schedules: Schedules, clock: Clock) -> None:
    broken, well = every_minute(schedules), every_minute(schedules)
    with schedules._writes.begin() as session:
        row = session.get_one(type(schedules.schedule(broken)), broken)
        row.document = {**row.document, "dataset": "gone"}
    minutes(store, clock, 1)
    (run,) = schedules.runs(broken)
    assert run.run.outcome == Outcome.SKIPPED
    assert str(run.run.reason).startswith("its study is no longer valid: dataset: unknown dataset 'gone'")
    assert outcomes(schedules, well) == [(1, "submitted", 1)]


def test_a_clock_that_is_set_back_doubles_nothing(store: Store, schedules: Schedules, clock: Clock) -> None:
    schedule = every_minute(schedules)
    minutes(store, clock, 3, lambda: end_all(store))
    clock.seconds -= 2 * MINUTE
    minutes(store, clock, 3, lambda: end_all(store))
    assert outcomes(schedules, schedule) == [(n, "submitted", 1) for n in (1, 2, 3, 4)]


# --- the clocks change


@pytest.mark.parametrize(
    ("zone", "start", "count"),
    [
        ("Europe/Paris", datetime(2026, 3, 29, 0, 30, tzinfo=UTC), 90),
        ("Europe/Paris", datetime(2026, 10, 25, 0, 30, tzinfo=UTC), 90),
        ("Australia/Lord_Howe", datetime(2026, 4, 4, 14, 45, tzinfo=UTC), 60),
        ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 15, tzinfo=UTC), 60),
    ],
)
def test_every_minute_over_a_change_of_the_clocks_with_the_service_down_in_between(
    store: Store, schedules: Schedules, clock: Clock, zone: str, start: datetime, count: int
) -> None:
    clock.seconds = start.timestamp()
    schedule = every_minute(schedules, zone=zone)
    minutes(store, clock, count // 3, lambda: end_all(store))
    clock.seconds += count // 3 * MINUTE  # nothing looks
    Cron(store).step()
    end_all(store)
    minutes(store, clock, count // 3, lambda: end_all(store))
    runs = [each.run for each in reversed(schedules.runs(schedule, 1000))]
    assert len(runs) == 2 * (count // 3) + 1
    assert sum(run.times for run in runs) == count
    covered = [round(run.due / 1000 - start.timestamp()) // MINUTE + n for run in runs for n in range(run.times)]
    assert covered == list(range(1, count + 1))


# --- deaths


class KilledError(BaseException):
    """The process dies here."""


class Deaths:
    """Dies at the n-th statement or commit of this database's writers, once."""

    def __init__(self, store: Store) -> None:
        self.engine, self.left = store.engine, 0

    def __enter__(self) -> "Deaths":
        event.listen(self.engine, "before_cursor_execute", self._count)
        event.listen(self.engine, "commit", self._count)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self.engine, "before_cursor_execute", self._count)
        event.remove(self.engine, "commit", self._count)

    def _count(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise KilledError


def deaths_of(store: Store, step: Callable[[], None], reset: Callable[[], None]) -> Iterator[int]:
    """`step` with a death before its first statement, its second, ... until it lives through; each followed by a whole `step`."""
    for number in range(1, 1000):
        reset()
        with Deaths(store) as deaths:
            deaths.left = number
            try:
                step()
            except KilledError:
                pass
            else:
                return
        Cron(store).step()  # the service was started again
        yield number


@pytest.mark.parametrize("overlap", list(Overlap))
def test_killed_before_any_statement_a_time_is_neither_lost_nor_doubled(
    store: Store, schedules: Schedules, clock: Clock, overlap: Overlap
) -> None:
    schedule = every_minute(schedules, overlap=overlap)
    minutes(store, clock, 2)  # the second meets the first one's study
    clock_before = clock.seconds

    def next_minute() -> None:
        clock.seconds += MINUTE
        if overlap == Overlap.QUEUE:
            end_all(store)

    rounds = list(deaths_of(store, Cron(store).step, next_minute))
    Cron(store).step()
    passed = round((clock.seconds - clock_before) / MINUTE) + 2
    assert len(rounds) > 5
    runs = [each.run for each in reversed(schedules.runs(schedule, 1000))]
    assert [_minute(run) for run in runs] == list(range(1, passed + 1))
    studies = [run.study_id for run in runs if run.study_id]
    assert sorted(studies) == sorted(study.id for study in store.studies(limit=1000))
    assert all((run.study_id is not None) == (run.outcome in (Outcome.SUBMITTED, Outcome.REPLACED)) for run in runs)
    if overlap == Overlap.REPLACE:
        assert len(studies) == passed
        assert len(unfinished(store)) == 1


def test_two_services_at_once_submit_a_time_once(url: str, store: Store, schedules: Schedules, clock: Clock) -> None:
    schedule = every_minute(schedules)
    other = Store(url, clock)
    try:
        clock.seconds += MINUTE
        threads = [_thread(Cron(each)) for each in (store, other) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        other.close()
    assert outcomes(schedules, schedule) == [(1, "submitted", 1)]
    assert len(store.studies()) == 1


def _thread(loop: Cron) -> Any:
    import threading

    return threading.Thread(target=loop.step)


def test_a_shipped_table_is_kept_as_it_is_when_it_is_scheduled(schedules: Schedules) -> None:
    made = schedules.add({"table": "frs2021/table-3", "scale": "smoke"}, "0 2 * * 6", fresh=True)
    assert made.document["id"] == "frs2021/table-3"
    assert (made.document["scale"], made.document["force"], made.spec["dataset"]) == ("smoke", True, "digits")
    assert len(made.document["rows"]) == 5
