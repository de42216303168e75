"""How many trials share the devices of a grant: few where there are many devices, and never so many that the last one ends later."""

import heapq
import random

from orchestrator.broker.cluster import Need, Resources
from orchestrator.broker.decide import decide
from orchestrator.broker.sharing import MOST_MEMBERS, members, places
from orchestrator.broker.situation import Owner, QueuedStudy, ReadyTrial, RunningTrial, Situation

ONE = Need(Resources(cpus=1, gpus=1))


def situation(ready: int, nodes: dict[str, int], busy: int = 0, devices: float | None = None) -> Situation:
    """A study with so many trials that are ready, on nodes with so many GPUs, of which others have some."""
    cluster = {name: Resources(cpus=64, gpus=gpus) for name, gpus in nodes.items()}
    studies = {1: QueuedStudy(1, "ada", 0, 0.0), 2: QueuedStudy(2, "ben", 0, 0.0)}
    trials = [ReadyTrial(number, 1, ONE, 100.0, 100.0, number) for number in range(ready)]
    running = tuple(RunningTrial(1000 + number, 2, ONE, (next(iter(nodes)),), 0.0, 50.0) for number in range(busy))
    return Situation(0.0, cluster, studies, {1: trials}, running, {"ada": Owner(devices=devices)})


def shared(given: Situation) -> list[int]:
    """By granted trial, how many share its devices."""
    decision = decide(given)
    found = members(given, decision, {1})
    return [found.get(grant.trial, 1) for grant in decision.grants]


def test_with_a_device_for_each_nobody_shares() -> None:
    assert shared(situation(4, {"a": 4})) == [1, 1, 1, 1]
    assert shared(situation(3, {"a": 2, "b": 2})) == [1, 1, 1]


def test_with_few_devices_trials_are_spread_over_them() -> None:
    assert shared(situation(6, {"a": 1})) == [6]
    assert shared(situation(6, {"a": 2})) == [3, 3]
    assert shared(situation(5, {"a": 2})) == [3, 3]
    assert shared(situation(100, {"a": 1})) == [MOST_MEMBERS]


def test_devices_that_others_have_now_count_for_they_come_free() -> None:
    assert shared(situation(4, {"a": 4}, busy=3)) == [1]
    assert shared(situation(6, {"a": 2}, busy=1)) == [3]


def test_an_owner_who_may_have_one_device_has_one_place() -> None:
    assert shared(situation(6, {"a": 8}, devices=1)) == [6]


def test_a_study_that_does_not_want_groups_has_none() -> None:
    given = situation(6, {"a": 1})
    assert members(given, decide(given), set()) == {}


def test_places_are_counted_node_by_node() -> None:
    nodes = {"a": Resources(cpus=7, gpus=1), "b": Resources(cpus=3)}
    assert places(Need(Resources(cpus=2)), nodes, None) == 3 + 1
    assert places(Need(Resources(cpus=2, gpus=1)), nodes, None) == 1
    assert places(Need(Resources(cpus=16)), nodes, None) == 1


def makespan(trials: int, busy: list[float], grouped: bool, share: float) -> float:
    """When the last of so many equal trials of a second ends, on devices that are busy at first. share: of a trial, what a group does once
    for all its members."""
    free, waiting, end = list(busy), trials, 0.0
    heapq.heapify(free)
    while waiting:
        now = heapq.heappop(free)
        together = min(MOST_MEMBERS, -(-waiting // len(busy))) if grouped else 1
        waiting -= together
        done = now + together - share * (together - 1)
        end = max(end, done)
        heapq.heappush(free, done)
    return end


def test_no_study_of_equal_trials_ends_later_for_its_groups() -> None:
    draw, sooner = random.Random(0), 0
    for _ in range(3000):
        trials, busy = draw.randint(1, 40), [draw.choice([0.0, draw.uniform(0, 3)]) for _ in range(draw.randint(1, 8))]
        alone = makespan(trials, busy, grouped=False, share=0.0)
        assert makespan(trials, busy, grouped=True, share=0.0) <= alone + 1e-9
        sooner += makespan(trials, busy, grouped=True, share=0.25) < alone - 1e-9
    assert sooner > 1500
