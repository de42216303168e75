"""Leases fence: whoever was taken over can write nothing more, and nothing is recorded twice."""

from pathlib import Path

import pytest

from orchestrator.machine import TrialState
from orchestrator.records.errors import LeaseLost, Superseded
from orchestrator.records.leases import Claim
from orchestrator.records.store import Store
from studies.trial import TrialFailure
from tests.orchestrator.conftest import ALONE, PUPIL, TEACHER, Clock, Driven, a_study, graph_of, next_of
from workers.folder import alone_in


def taken_over(driven: Driven, store: Store, clock: Clock, folder: Path) -> Driven:
    """The other study that holds the lease of the teacher, whose first holder was silent for too long."""
    driven.begin(TEACHER, "same")
    other = Driven.start(store, folder)
    clock.seconds += 31
    assert other.claim(TEACHER, "same") == Claim.HELD
    return other


def test_every_lease_has_a_greater_number_than_all_before(driven: Driven, store: Store, tmp_path: Path) -> None:
    numbers = []
    for _ in range(3):
        driven.begin(TEACHER, "same")
        numbers.append(driven.fences[TEACHER])
        driven.fail(TEACHER, "infra", "its process died")
    other = Driven.start(store, tmp_path)
    other.begin(TEACHER, "same")
    assert sorted({*numbers, other.fences[TEACHER]}) == [*numbers, other.fences[TEACHER]]


def test_whoever_was_taken_over_records_nothing_more(driven: Driven, store: Store, clock: Clock, tmp_path: Path) -> None:
    other = taken_over(driven, store, clock, tmp_path)
    before = len(store.events(driven.id))
    too_late = [
        lambda: driven.epoch(TEACHER, 1),
        lambda: driven.finish(TEACHER),
        lambda: driven.fail(TEACHER, "nan", "the loss became NaN"),
    ]
    for late in too_late:
        with pytest.raises(LeaseLost, match=r"another has trained in same since"):
            late()
    assert len(store.events(driven.id)) == before
    other.start_trial(TEACHER)
    other.epoch(TEACHER, 1)
    other.finish(TEACHER)
    with pytest.raises(Superseded):  # also after the other has given the lease back
        driven.finish(TEACHER)
    assert (driven.trial(TEACHER).state, other.trial(TEACHER).state) == (TrialState.RUNNING, TrialState.FINISHED)


def test_a_clock_that_is_set_back_keeps_no_lease_of_a_holder_that_is_gone(
    driven: Driven, store: Store, clock: Clock, tmp_path: Path
) -> None:
    driven.begin(TEACHER, "same")
    other = Driven.start(store, tmp_path)
    assert other.claim(TEACHER, "same") == Claim.BUSY
    clock.seconds -= 3600
    assert other.claim(TEACHER, "same") == Claim.HELD


def test_a_driver_that_lost_a_lease_takes_the_others_result(store: Store, clock: Clock, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    order = next_of(graph)
    assert order
    graph.started(order.trial)
    clock.seconds += 31
    other = Driven.start(store, tmp_path, a_study(name="another"))
    theirs = graph_of(other, a_study(name="another"))
    again = next_of(theirs)
    assert again
    assert (again.folder, again.fence > order.fence) == (order.folder, True)
    graph.reported(order.trial, {"epoch": 1, "epochs": 2, "metrics": {"AP": 1.0}})
    trial = driven.trial(TEACHER)
    assert (trial.state, trial.losses, trial.epoch) == (TrialState.READY, 0, 0)
    assert TEACHER not in graph.claimed


def test_what_is_recorded_again_is_recorded_once(driven: Driven, store: Store) -> None:
    driven.begin(ALONE)
    driven.start_trial(ALONE)
    driven.epoch(ALONE, 1)
    driven.fail(ALONE, "infra", "its process died")
    seen = len(store.events(driven.id))
    driven.fail(ALONE, "infra", "its process died")
    assert (driven.trial(ALONE).losses, len(store.events(driven.id))) == (1, seen)
    driven.train(TEACHER)
    seen = len(store.events(driven.id))
    driven.finish(TEACHER)
    assert len(store.events(driven.id)) == seen
    for name in (ALONE, PUPIL):
        driven.begin(name)
        driven.fail(name, "user", "it does not fit")
    first = store.conclude(driven.id, driven.attempt)
    seen = len(store.events(driven.id))
    assert store.conclude(driven.id, driven.attempt).state == first.state
    assert len(store.events(driven.id)) == seen


def test_an_epoch_without_a_single_number_is_recorded(driven: Driven, store: Store) -> None:
    driven.begin(ALONE)
    assert driven.epoch(ALONE, 1, loss=float("nan"))
    assert not driven.epoch(ALONE, 1, loss=float("nan"))
    assert (driven.trial(ALONE).epoch, store.points(driven.id)) == (1, [])


def test_a_superseded_driver_keeps_no_lease_of_its_successor(driven: Driven, store: Store) -> None:
    store.end_attempt(driven.id, driven.attempt, "killed")
    with pytest.raises(Superseded):
        store.keep_leases(driven.id, driven.attempt)


def test_a_folder_takes_no_lease_older_than_its_last(tmp_path: Path) -> None:
    for fence in (4, 4, 7, None):
        with alone_in(tmp_path / "key", fence):
            pass
    with (
        pytest.raises(TrialFailure, match=r"its lease 5 is over, another trial has had key since \(lease 7\)"),
        alone_in(tmp_path / "key", 5),
    ):
        pass


def test_the_run_of_a_key_that_is_gone_is_not_stored(driven: Driven, store: Store) -> None:
    driven.begin(ALONE, "new code")
    assert not store.set_trial_run(driven.trial(ALONE).id, "run of the old code", "old code")
    assert driven.trial(ALONE).run is None
