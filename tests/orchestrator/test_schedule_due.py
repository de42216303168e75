"""The pure decision: each policy by an example, and any course of events without a time lost or doubled."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.schedules.due import Deal, Misfire, Outcome, Overlap, Release, Replace, Standing, decide
from orchestrator.schedules.times import after, upcoming

START = round(datetime(2026, 3, 29, 0, 20, tzinfo=UTC).timestamp() * 1000)  # forty minutes before Paris jumps from 02:00 to 03:00
MINUTE = 60_000
DUE = Standing("*/5 * * * *", "Europe/Paris", Misfire.ONCE, Overlap.SKIP, False, START)


def test_nothing_happens_before_the_time_or_while_paused() -> None:
    assert decide(DUE, START - 1) is None
    assert decide(replace(DUE, paused=True, waiting=START), START) is None


def test_a_due_time_is_submitted_and_the_next_is_known() -> None:
    assert decide(DUE, START) == Deal(START, 1, START + 5 * MINUTE, Outcome.SUBMITTED)


def test_all_missed_times_are_one_run_or_one_skipped_entry() -> None:
    late = START + 52 * MINUTE
    reason = "11 times had come by then and make one run"
    assert decide(DUE, late) == Deal(START, 11, START + 55 * MINUTE, Outcome.SUBMITTED, reason)
    skipped = decide(replace(DUE, misfire=Misfire.SKIP), late)
    assert skipped == Deal(START, 11, START + 55 * MINUTE, Outcome.SKIPPED, "missed while the service was down")
    on_time = START + 50 * MINUTE + 59_000
    assert decide(replace(DUE, misfire=Misfire.SKIP), on_time) == replace(skipped, times=10, following=START + 50 * MINUTE)


@pytest.mark.parametrize(
    ("standing", "decision"),
    [
        (replace(DUE, running=(7,)), Outcome.SKIPPED),
        (replace(DUE, stopping=(7,)), Outcome.SKIPPED),
        (replace(DUE, running=(7,), overlap=Overlap.QUEUE), Outcome.WAITING),
        (replace(DUE, running=(7,), overlap=Overlap.QUEUE, waiting=START - 1), Outcome.SKIPPED),
        (replace(DUE, overlap=Overlap.QUEUE, waiting=START - 1), Release(START - 1)),
        (replace(DUE, running=(7, 8), overlap=Overlap.REPLACE), Replace((7, 8))),
        (replace(DUE, stopping=(7,), overlap=Overlap.REPLACE), Outcome.SUBMITTED),
    ],
)
def test_what_a_time_does_while_an_earlier_study_is_not_at_rest(standing: Standing, decision: Outcome | Release | Replace) -> None:
    decided = decide(standing, START)
    assert (decided.outcome if isinstance(decided, Deal) else decided) == decision


STEPS = st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=25)  # minutes until somebody looks again; a study ends then


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(list(Misfire)), st.sampled_from(list(Overlap)), STEPS)
def test_whatever_happens_no_time_is_lost_or_doubled(misfire: Misfire, overlap: Overlap, steps: list[tuple[int, bool]]) -> None:
    schedule, now, next_study = replace(DUE, misfire=misfire, overlap=overlap), START, 1
    dealt: list[int] = []
    for pause, ends in steps:
        now += pause * MINUTE
        if ends:
            schedule = replace(schedule, running=(), stopping=())
        while decision := decide(schedule, now):
            if isinstance(decision, Replace):
                schedule = replace(schedule, running=(), stopping=schedule.stopping + decision.studies)
                continue
            if isinstance(decision, Release):
                schedule = replace(schedule, waiting=None, running=(next_study,))
            else:
                dealt += [decision.due, *upcoming(schedule.cron, schedule.zone, decision.due, decision.times)[: decision.times - 1]]
                schedule = replace(schedule, due=decision.following)
                if decision.outcome == Outcome.WAITING:
                    assert schedule.waiting is None
                    schedule = replace(schedule, waiting=decision.due)
                if decision.outcome == Outcome.SUBMITTED:
                    schedule = replace(schedule, running=(*schedule.running, next_study))
            next_study += 1
            assert len(schedule.running) <= 1
        assert schedule.due > now or schedule.paused
    assert dealt == [START, *upcoming(schedule.cron, schedule.zone, START, len(dealt))][: len(dealt)]
    assert schedule.due == (after(schedule.cron, schedule.zone, dealt[-1]) if dealt else START)
