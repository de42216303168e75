"""The broker over days of made-up work: nobody starves, no quota is broken, no device idles, fair shares come out fair."""

import random
from collections import defaultdict
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.broker.cluster import Need, Resources
from orchestrator.broker.decide import AGEING
from orchestrator.broker.simulation import Outcome, SimulatedStudy, SimulatedTrial, Simulation
from orchestrator.broker.situation import Owner

NODES = {"a": Resources(16, 4), "b": Resources(16, 4)}
NEEDS = st.sampled_from(
    [
        Need(Resources(2, 1)),
        Need(Resources(2, 2)),
        Need(Resources(1, 0.25)),
        Need(Resources(2, 1), workers=4),
        Need(Resources(2, 1), workers=6),
    ]
)


@st.composite
def studies(draw: st.DrawFn) -> list[SimulatedStudy]:
    made = []
    for id in range(draw(st.integers(1, 6))):
        trials = [SimulatedTrial("teacher", draw(NEEDS), draw(st.floats(60, 5000)))]
        for n in range(draw(st.integers(0, 6))):
            needs = ("teacher",) if draw(st.booleans()) else ()
            trials.append(
                SimulatedTrial(f"student-{n}", draw(NEEDS), draw(st.floats(60, 5000)), needs, draw(st.sampled_from([None, 60.0, 9e3])))
            )
        owner, priority = draw(st.sampled_from(["ada", "bob"])), draw(st.integers(-2, 2))
        made.append(SimulatedStudy(id, owner, draw(st.floats(0, 3000)), tuple(trials), priority))
    return made


def in_use(outcome: Outcome, moment: float, node: str | None = None, owner: str | None = None) -> float:
    """GPUs at a moment."""
    return sum(
        span.need.each.gpus * sum(each == node or node is None for each in span.nodes)
        for span in outcome.spans
        if span.start <= moment < span.end and owner in (None, span.owner)
    )


@settings(max_examples=60, deadline=None)
@given(studies())
def test_every_study_ends_whatever_comes_and_no_device_is_given_twice(plans: list[SimulatedStudy]) -> None:
    outcome = Simulation(NODES, plans, {"ada": Owner(devices=6.0)}, tick=1.0).run()
    assert outcome.ended.keys() == {plan.id for plan in plans}
    for moment in {span.start for span in outcome.spans}:
        assert all(in_use(outcome, moment, node) <= 4 + 1e-9 for node in NODES)
        assert in_use(outcome, moment, owner="ada") <= 6 + 1e-9
    worked: dict[tuple[int, str], float] = defaultdict(float)
    for span in outcome.spans:
        worked[span.study, span.trial] += span.end - span.start
    wanted = {(plan.id, trial.name): trial.seconds for plan in plans for trial in plan.trials}
    assert worked.keys() == wanted.keys()
    assert all(abs(worked[key] - wanted[key]) < 1e-6 for key in wanted), "a preempted trial goes on where it was"


@settings(max_examples=30, deadline=None)
@given(studies(), st.floats(0.2, 4.0))
def test_device_hours_are_exceeded_by_no_more_than_leaving_takes(plans: list[SimulatedStudy], hours: float) -> None:
    leave = 60.0
    outcome = Simulation(NODES, plans, {"ada": Owner(hours_left=hours)}, tick=1.0, leave=leave).run()
    had = sum((span.end - span.start) * span.need.devices for span in outcome.spans if span.owner == "ada")
    assert had <= hours * 3600 + 8 * (leave + 2), "all eight GPUs were theirs"
    ended = {plan.id for plan in plans if plan.id in outcome.ended}
    assert {plan.id for plan in plans if plan.owner == "bob"} <= ended
    unfinished = {plan.id for plan in plans} - ended
    assert all(outcome.refused[study] == "the device-hours of ada for this month are used up" for study in unfinished)


@settings(max_examples=40, deadline=None)
@given(studies())
def test_single_trials_never_wait_while_a_device_is_free(plans: list[SimulatedStudy]) -> None:
    one = [
        replace(
            plan, priority=0, trials=tuple(replace(trial, need=Need(Resources(2, 1)), needs=(), estimate=None) for trial in plan.trials)
        )
        for plan in plans
    ]
    outcome = Simulation(NODES, one, tick=1.0).run()
    for span in outcome.spans:
        came = next(plan.submitted for plan in one if plan.id == span.study)
        ends = [other.end for other in outcome.spans if came + 2 < other.end < span.start - 2]
        assert all(in_use(outcome, end + 1.5) == 8 for end in ends), "it waited, so all devices were at work"


def test_an_urgent_study_waits_no_longer_than_a_checkpoint_takes() -> None:
    busy = [
        SimulatedStudy(n, "ada", 0.0, tuple(SimulatedTrial(f"t{k}", Need(Resources(2, 1)), 50_000.0) for k in range(8))) for n in range(3)
    ]
    gang = SimulatedTrial("gang", Need(Resources(2, 1), workers=4), 1000.0)
    outcome = Simulation(NODES, [*busy, SimulatedStudy(9, "bob", 5000.0, (gang,), priority=1)], tick=1.0, leave=600.0).run()
    assert outcome.first_start(9) - 5000.0 <= 602.0
    assert sum(span.preempted for span in outcome.spans) == 4


def test_a_campaign_that_came_long_before_gives_nobody_elses_room_back_to_itself() -> None:
    drawn = random.Random(0)
    campaign = SimulatedStudy(
        0, "ada", 0.0, tuple(SimulatedTrial(f"t{n}", Need(Resources(2, 1)), drawn.uniform(1800.0, 7200.0)) for n in range(300))
    )
    came = 30 * 3600.0
    gang = SimulatedTrial("gang", Need(Resources(2, 1), workers=4), 1000.0)
    outcome = Simulation(NODES, [campaign, SimulatedStudy(9, "bob", came, (gang,), priority=1)], tick=1.0, leave=600.0).run()
    assert outcome.first_start(9) - came <= 602.0
    assert sum(span.preempted for span in outcome.spans) <= 4


def test_two_owners_with_much_to_do_have_equal_days() -> None:
    def work(id: int, owner: str, seconds: float, count: int) -> SimulatedStudy:
        return SimulatedStudy(id, owner, 0.0, tuple(SimulatedTrial(f"t{n}", Need(Resources(2, 1)), seconds) for n in range(count)))

    plans = [work(1, "ada", 700.0, 1500), work(2, "bob", 5000.0, 300), work(3, "ada", 900.0, 1500), work(4, "ada", 2000.0, 500)]
    outcome = Simulation(NODES, plans, tick=10.0).run(until=86_400.0)
    had = {owner: sum(span.end - span.start for span in outcome.spans if span.owner == owner) for owner in ("ada", "bob")}
    assert 0.95 < had["ada"] / had["bob"] < 1.05
    assert sum(had.values()) > 0.99 * 8 * 86_400.0


def test_a_study_of_low_priority_gets_its_turn_in_a_stream_of_higher_ones() -> None:
    stream = [
        SimulatedStudy(n, "ada", n * 1000.0, tuple(SimulatedTrial(f"t{k}", Need(Resources(2, 1)), 1000.0) for k in range(8)), priority=2)
        for n in range(1, 130)
    ]
    low = SimulatedStudy(0, "ada", 1500.0, tuple(SimulatedTrial(f"t{k}", Need(Resources(2, 1)), 30_000.0) for k in range(2)))
    outcome = Simulation(NODES, [low, *stream], tick=1.0).run()
    first, *_ = sorted((span for span in outcome.spans if span.study == 0), key=lambda span: span.start)
    assert first.start <= 2000.0 + 2 * AGEING + 1000.0, "two points, and the first trial that ends"
    assert not first.preempted, "it has its turn to the end"
    assert first.end < outcome.makespan - 20_000.0


def test_what_fits_nowhere_is_told_and_the_rest_goes_on() -> None:
    wide = SimulatedStudy(1, "ada", 0.0, (SimulatedTrial("wide", Need(Resources(2, 8)), 10.0),))
    fine = SimulatedStudy(2, "ada", 0.0, (SimulatedTrial("fine", Need(Resources(2, 1)), 10.0),))
    outcome = Simulation(NODES, [wide, fine]).run()
    assert outcome.ended == {2: 10.0}
    assert outcome.refused == {1: "needs 8 GPUs on a node; the largest has 4"}
