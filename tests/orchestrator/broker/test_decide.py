"""The broker's rules, one by one."""

from dataclasses import replace
from typing import Any

from orchestrator.broker.cluster import Need, Resources
from orchestrator.broker.decide import AGEING, decide
from orchestrator.broker.situation import Owner, QueuedStudy, ReadyTrial, RunningTrial, Situation, in_order

ONE = Need(Resources(1, 1))
NODE = {"node": Resources(16, 4)}


def study(id: int, owner: str = "ada", priority: int = 0, submitted: float = 0.0, overtaken: float | None = None) -> QueuedStudy:
    return QueuedStudy(id, owner, priority, submitted, overtaken)


def ready(id: int, study: int, need: Need = ONE, seconds: float | None = 100.0, path: float = 100.0) -> ReadyTrial:
    return ReadyTrial(id, study, need, seconds, path, order=id)


def running(id: int, study: int, need: Need = ONE, remaining: float | None = 100.0, started: float = 0.0) -> RunningTrial:
    return RunningTrial(id, study, need, ("node",) * need.workers, started, remaining)


def situation(studies: list[QueuedStudy], trials: list[ReadyTrial], at_work: list[RunningTrial] | None = None, **more: Any) -> Situation:
    by_study = {each.id: in_order(trial for trial in trials if trial.study == each.id) for each in studies}
    return Situation(1000.0, NODE, {each.id: each for each in studies}, by_study, tuple(at_work or ()), **more)


def granted(of: Situation) -> list[int]:
    return [grant.trial for grant in decide(of).grants]


def test_the_trial_with_the_longest_chain_behind_it_starts_first() -> None:
    baselines = [ready(n, 1) for n in range(4)]
    assert granted(situation([study(1)], [*baselines, ready(9, 1, path=500.0)]))[0] == 9


def test_the_higher_priority_goes_first_and_who_was_overtaken_for_long_has_one_turn_before_it() -> None:
    trials = [ready(n, 1 if n < 4 else 2) for n in range(8)]
    high = study(2, priority=1, submitted=990)
    assert granted(situation([study(1, submitted=1000.0 - 50 * AGEING), high], trials)) == [4, 5, 6, 7], "old, but overtaken by nobody"
    overtaken = situation([study(1, overtaken=1000.0 - 2 * AGEING), high], trials)
    decision = decide(overtaken)
    assert [(grant.trial, grant.points) for grant in decision.grants] == [(0, 2), (4, 0), (5, 0), (6, 0)]
    assert decision.overtaken == {}


def test_being_overtaken_begins_when_higher_ones_get_devices_and_ends_when_none_has_any() -> None:
    trials = [ready(n, 1 if n < 4 else 2) for n in range(8)]
    both = situation([study(1), study(2, priority=1)], trials)
    assert decide(both).overtaken == {1: 1000.0}
    since = situation([study(1, overtaken=200.0), study(2, priority=1)], trials)
    assert decide(since).overtaken == {1: 200.0}
    equals = situation([study(1, overtaken=200.0), study(3)], [ready(n, 3) for n in range(4)] + [ready(9, 1)], [running(12, 3)])
    assert decide(equals).overtaken == {}


def test_what_came_to_its_turn_by_waiting_is_left_alone_by_those_it_came_before() -> None:
    at_work = [replace(running(11, 1, started=5.0), points=2), *(running(n, 3) for n in (12, 13, 14))]
    studies = [study(1), study(2, priority=2), study(3, priority=2)]
    assert decide(situation(studies, [ready(1, 2)], at_work)).preemptions == ()
    studies[1] = study(2, priority=3)
    assert [each.trial for each in decide(situation(studies, [ready(1, 2)], at_work)).preemptions] == [11], "the youngest of equals"


def test_owners_share_alike_and_who_had_less_lately_comes_first() -> None:
    trials = [ready(n, 1 + n % 2) for n in range(8)]
    both = situation([study(1, "ada"), study(2, "bob", submitted=5.0)], trials)
    assert sorted(trial % 2 for trial in granted(both)) == [0, 0, 1, 1]
    assert {trial % 2 for trial in granted(replace(both, owners={"ada": Owner(used=1e6)}))} == {1}
    heavy = granted(replace(both, owners={"ada": Owner(weight=3.0)}))
    assert sorted(trial % 2 for trial in heavy) == [0, 0, 0, 1]


def test_quotas_hold_and_say_so() -> None:
    trials = [ready(n, 1) for n in range(4)]
    few = decide(situation([study(1)], trials, [running(9, 1)], owners={"ada": Owner(devices=2)}))
    assert (len(few.grants), few.waits) == (1, {1: "ada may have 2 devices at once"})
    spent = decide(situation([study(1)], trials, owners={"ada": Owner(hours_left=0.0)}))
    assert (spent.grants, spent.waits) == ((), {1: "the device-hours of ada for this month are used up"})


def test_trials_leave_when_the_hours_are_used_up_and_make_room_for_whoever_waits() -> None:
    at_work = [running(11, 1), *(running(n, 3) for n in (12, 13, 14))]
    studies = [study(1), study(2, "bob", priority=5), study(3, "eve")]
    decision = decide(situation(studies, [ready(1, 2)], at_work, owners={"ada": Owner(hours_left=-0.1)}))
    assert [(each.trial, each.room_for) for each in decision.preemptions] == [(11, None)]


def test_what_fits_nowhere_waits_with_the_reason_and_holds_up_nobody() -> None:
    decision = decide(situation([study(1, priority=9), study(2)], [ready(1, 1, Need(Resources(1, 8))), ready(2, 2)]))
    assert [grant.trial for grant in decision.grants] == [2]
    assert decision.waits == {1: "needs 8 GPUs on a node; the largest has 4"}


def test_a_blocked_gang_keeps_its_place_and_only_short_trials_overtake_it() -> None:
    gang = ready(1, 1, Need(Resources(1, 1), workers=4))
    at_work = [running(8, 3, remaining=300.0), running(9, 3, remaining=50.0)]
    studies = [study(1), study(2, submitted=5.0), study(3, submitted=1.0)]
    decision = decide(situation(studies, [gang, ready(2, 2, seconds=299.0), ready(3, 2, seconds=301.0)], at_work))
    assert [grant.trial for grant in decision.grants] == [2]
    assert decision.starts == {1: 1300.0}
    assert decision.waits == {1: "waits for devices", 2: "waits behind a trial that came first"}


def test_a_higher_priority_makes_the_least_and_youngest_leave_and_no_more_than_it_needs() -> None:
    at_work = [running(11, 1, started=10.0), running(12, 1, started=20.0), running(13, 3), running(14, 3)]
    studies = [study(1), study(2, priority=5), study(3, priority=2)]
    decision = decide(situation(studies, [ready(1, 2)], at_work))
    assert [(each.trial, each.room_for) for each in decision.preemptions] == [(12, 1)]
    leaving = [replace(each, leaving=each.id == 12) for each in at_work]
    assert decide(situation(studies, [ready(1, 2)], leaving)).preemptions == ()
    two = decide(situation(studies, [ready(1, 2, Need(Resources(2, 2)))], at_work))
    assert sorted(each.trial for each in two.preemptions) == [11, 12]


def test_nobody_leaves_for_an_equal_or_where_it_would_not_help() -> None:
    at_work = [running(n, 1) for n in (11, 12, 13, 14)]
    assert decide(situation([study(1), study(2)], [ready(1, 2)], at_work)).preemptions == ()
    mixed = [running(11, 1), *(running(n, 3) for n in (12, 13, 14))]
    studies = [study(1), study(2, priority=5), study(3, priority=5)]
    assert decide(situation(studies, [ready(1, 2, Need(Resources(2, 2)))], mixed)).preemptions == ()


def test_what_is_being_freed_for_one_is_given_to_no_other() -> None:
    at_work = [replace(running(11, 1, Need(Resources(3, 3))), leaving=True)]
    studies = [study(1), study(2, priority=5), study(3)]
    whole = ready(1, 2, Need(Resources(4, 4)))
    decision = decide(situation(studies, [whole, ready(2, 3, seconds=5000.0)], at_work))
    assert decision.grants == ()


def test_a_trial_that_nobody_has_measured_still_gets_its_turn() -> None:
    assert granted(situation([study(1)], [ready(1, 1, seconds=None)], [running(2, 1, remaining=None)])) == [1]
