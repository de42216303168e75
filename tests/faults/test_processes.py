"""A trial of several processes, which Ray Train starts inside Tune's own, on a whole stack: one of them killed, or standing still, or the
trial's own process killed, it is tried again and ends with the numbers of an undisturbed one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.machine import TrialState
from tests.faults.conftest import DEADLINES, Bench, first_epoch, running

CHANGES: dict[str, Any] = {"arms": [{"id": "student"}], "resources": {"workers": 2, "cpus": 1}, "force": True}
MEMBERS = "ray::RayTrainWorker"


@pytest.fixture(scope="module")
def bench(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Its watch is as patient as the start of several processes takes, in which nobody says anything."""
    with running(tmp_path_factory.mktemp("processes") / "home", data, 2, DEADLINES | {"RETORT_DEADLINE_SILENCE": "120"}) as bench:
        yield bench


@pytest.fixture(scope="module")
def undisturbed(bench: Bench) -> int:
    study = bench.submit("two processes", **CHANGES)
    assert bench.await_end(study).state.value == "finished"
    assert {trial.losses for trial in bench.store.trials(study)} == {0}
    return study


def in_its_second_epoch(bench: Bench, name: str) -> tuple[int, list[psutil.Process]]:
    """A study one of whose trials trains, and that one's processes."""
    study = bench.submit(name, **CHANGES)
    bench.await_event(study, first_epoch)
    members = bench.processes(MEMBERS)
    assert len(members) == 2
    return study, members


def holds(bench: Bench, study: int, undisturbed: int, members: list[psutil.Process], reason: str) -> None:
    """The study ends as if undisturbed, after a trial was lost for this reason, and nothing of its processes is left."""
    assert bench.await_end(study).state.value == "finished"
    assert bench.numbers(study) == bench.numbers(undisturbed)
    trials = bench.store.trials(study)
    assert {trial.state for trial in trials} == {TrialState.FINISHED}
    assert sum(trial.losses for trial in trials) == 1
    told = [str(event.data) for event in bench.store.events(study, limit=100_000)]
    assert any(reason in text for text in told), told
    assert not any(member.is_running() for member in members)
    bench.await_that(study, lambda: not bench.processes(MEMBERS) and not bench.processes("ray::TrainController"))


def test_one_that_is_killed(bench: Bench, undisturbed: int) -> None:
    study, members = in_its_second_epoch(bench, "one is killed")
    members[1].kill()
    holds(bench, study, undisturbed, members, " was lost: ")


def test_one_that_stands_still_ends_by_the_watch(bench: Bench, undisturbed: int) -> None:
    study, members = in_its_second_epoch(bench, "one stands still")
    members[1].suspend()
    holds(bench, study, undisturbed, members, "no sign of life")


def test_all_end_with_the_trials_own_process_also_where_they_stand_still(bench: Bench, undisturbed: int) -> None:
    study, members = in_its_second_epoch(bench, "the trial's own is killed")
    members[1].suspend()
    for process in bench.processes("ray::ImplicitFunc.train"):
        process.kill()
    assert psutil.wait_procs(members, timeout=10)[1] == []
    holds(bench, study, undisturbed, members, "its process died")
