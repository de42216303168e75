"""Trainings that are stopped early: what Tune's schedulers say, and that a driver that starts anew says the same."""

import random
from typing import Any

import pytest

from orchestrator.searching.rungs import Epoch, Rungs
from studies.spec import Search

LONGEST = 9


def search(**changes: Any) -> Search:
    space = {"weight": {"uniform": [0, 1]}}
    return Search.model_validate({"algorithm": "random", "trials": 9, "scheduler": "asha", "space": space} | changes)


def trainings(seed: int, count: int) -> list[list[Epoch]]:
    """Each learns towards a height of its own."""
    drawn = random.Random(seed)
    heights = [drawn.uniform(10, 60) for _ in range(count)]
    return [[Epoch(f"t{n}", e, LONGEST, height * e / (e + 2)) for e in range(1, LONGEST + 1)] for n, height in enumerate(heights)]


def run(wanted: Search, anew: bool, together: int = 1) -> tuple[dict[str, int], list[Epoch]]:
    """How many epochs each of twelve trainings was given, `together` at once; and what was recorded. anew: a new driver for every epoch."""
    rungs, recorded, given = Rungs(wanted, LONGEST), list[Epoch](), dict[str, int]()
    waiting = trainings(1, 12)
    running: list[list[Epoch]] = []
    while waiting or running:
        while waiting and len(running) < together:
            running.append(waiting.pop(0))
        for training in list(running):
            if anew:
                rungs = Rungs(wanted, LONGEST, recorded)
            done = training.pop(0)
            recorded.append(done)
            given[done.trial] = done.epoch
            if rungs.judge(done) or not training:
                running.remove(training)
    return given, recorded


@pytest.mark.parametrize("together", [1, 4])
@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "median"])
def test_a_driver_killed_after_any_epoch_stops_the_same_trainings(scheduler: str, together: int) -> None:
    wanted = search(scheduler=scheduler)
    quiet, _ = run(wanted, anew=False, together=together)
    assert run(wanted, anew=True, together=together)[0] == quiet
    assert 2 <= sum(epochs < LONGEST for epochs in quiet.values()) <= 11


def test_asha_stops_at_its_rungs_those_below_the_best_third() -> None:
    given, _ = run(search(), anew=False)
    assert set(given.values()) <= {1, 3, LONGEST}
    finals = {f"t{n}": training[-1].value for n, training in enumerate(trainings(1, 12))}
    assert given[max(finals, key=lambda name: finals[name])] == LONGEST
    assert sum(given.values()) < 0.6 * 12 * LONGEST


def test_no_training_is_stopped_before_the_grace_is_over() -> None:
    for scheduler in ("asha", "median"):
        given, _ = run(search(scheduler=scheduler, grace=3), anew=False)
        assert min(given.values()) >= 3


def test_a_training_is_not_stopped_after_its_last_epoch() -> None:
    rungs = Rungs(search(), 3, [Epoch("good", 1, 3, 50.0), Epoch("good", 3, 3, 60.0)])
    assert rungs.judge(Epoch("bad", 1, 1, 10.0)) is False
    assert rungs.judge(Epoch("worse", 1, 3, 5.0)) is True


def test_of_errors_the_greater_ones_are_stopped() -> None:
    wanted = search().model_copy(update={"objective": search(objective=["err_missed"]).objective})
    rungs = Rungs(wanted, 3, [Epoch("good", 1, 3, 5.0)])
    assert rungs.judge(Epoch("bad", 1, 3, 20.0)) is True


def test_an_epoch_that_is_told_twice_is_judged_once() -> None:
    rungs = Rungs(search(), LONGEST, [Epoch("a", 1, LONGEST, 10.0), Epoch("b", 1, LONGEST, 20.0)])
    assert rungs.judge(Epoch("c", 1, LONGEST, 15.0)) is True
    assert rungs.judge(Epoch("c", 1, LONGEST, 15.0)) is True
    assert rungs.judge(Epoch("b", 1, LONGEST, 20.0)) is False


def test_other_draws_of_numpy_are_not_disturbed() -> None:
    import numpy as np

    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    Rungs(search(scheduler="hyperband"), LONGEST, [Epoch("a", 1, LONGEST, 1.0)])
    assert np.random.random() == expected
