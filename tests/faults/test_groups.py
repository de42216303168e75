"""Students of one teacher that train as a group, on a whole stack: alone or together, killed or not, the table is the same."""

from typing import Any

import pytest

from orchestrator.machine import TrialState
from orchestrator.records.schema import Event
from tests.faults.conftest import Bench

METHODS = ("fitnet", "ld", "mgd", "cwd")
# Devices for one trial at a time, so that the students wait for one another.
CHANGES: dict[str, Any] = {
    "arms": [{"id": method, "distiller": method} for method in METHODS],
    "resources": {"cpus": 2, "group": "auto"},
    "force": True,
}


def grouped(event: Event) -> bool:
    return event.kind == "note" and "trains together with" in event.data["text"]


def epoch_of_student(event: Event) -> bool:
    return event.kind == "epoch" and event.data["trial"].split("/")[0] in METHODS


@pytest.fixture(scope="module")
def apart(bench: Bench) -> int:
    """A study whose students train one after another."""
    study = bench.submit("apart", **CHANGES | {"resources": {"cpus": 2, "group": "off"}})
    assert bench.await_end(study).state.value == "finished"
    assert not any(map(grouped, bench.store.events(study, limit=100_000)))
    return study


def test_students_that_train_as_a_group_give_what_they_give_alone(bench: Bench, apart: int) -> None:
    study = bench.submit("together", **CHANGES)
    assert bench.await_end(study).state.value == "finished"
    (told,) = filter(grouped, bench.store.events(study, limit=100_000))
    assert told.data["text"].count("seed 0") == len(METHODS)
    assert bench.numbers(study) == bench.numbers(apart)
    assert bench.table(study) == bench.table(apart)
    stays = [stay for stay in bench.stays(study) if stay.trial.split("/")[0] in METHODS]
    assert max(stay.began for stay in stays) < min(stay.ended or 0 for stay in stays)


def test_a_group_whose_process_is_killed_ends_trial_by_trial_as_if_undisturbed(bench: Bench, apart: int) -> None:
    study = bench.submit("killed", **CHANGES)
    bench.await_event(study, epoch_of_student)
    for process in bench.processes("ray::ImplicitFunc.train"):
        process.kill()
    assert bench.await_end(study).state.value == "finished"
    assert bench.numbers(study) == bench.numbers(apart)
    trials = bench.store.trials(study)
    assert {trial.state for trial in trials} == {TrialState.FINISHED}
    assert max(trial.losses for trial in trials) == 1


def test_a_group_whose_driver_is_killed_goes_on_as_a_group(bench: Bench, apart: int) -> None:
    study = bench.submit("the driver of a group is killed", **CHANGES)
    bench.await_event(study, epoch_of_student)
    (driver,) = bench.processes("orchestrator.driving.driver", f" {study} 1")
    driver.kill()
    assert bench.await_end(study).state.value == "finished"
    assert bench.numbers(study) == bench.numbers(apart)
    assert len(list(filter(grouped, bench.store.events(study, limit=100_000)))) == 2
    assert [attempt.number for attempt in bench.store.attempts(study)] == [1, 2]
