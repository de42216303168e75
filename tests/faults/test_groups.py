"""Students of one teacher that train as a group, on a whole stack: alone or together, killed or not, the table is the same."""

from typing import Any

from orchestrator.machine import TrialState
from orchestrator.records.schema import Event
from tests.faults.conftest import Bench

METHODS = ("fitnet", "ld", "mgd", "cwd")
# Devices for one trial at a time, so that the students wait for one another.
CHANGES: dict[str, Any] = {
    "arms": [{"id": method, "distiller": method} for method in METHODS],
    "resources": {"cpus": 2},
    "force": True,
}


def grouped(event: Event) -> bool:
    return event.kind == "note" and "trains together with" in event.data["text"]


def of_student(event: Event) -> bool:
    return event.kind == "epoch" and event.data["trial"].split("/")[0] in METHODS


def test_students_that_train_as_a_group_give_what_they_give_alone(bench: Bench) -> None:
    apart = bench.submit("apart", **CHANGES | {"resources": {"cpus": 2, "group": "off"}})
    together, killed = (bench.submit(name, **CHANGES) for name in ("together", "killed"))
    for study in (apart, together):
        assert bench.await_end(study).state.value == "finished"
    assert not any(map(grouped, bench.store.events(apart)))
    (told,) = filter(grouped, bench.store.events(together, limit=100_000))
    assert told.data["text"].count("seed 0") == len(METHODS)
    assert bench.numbers(together) == bench.numbers(apart)
    assert bench.table(together) == bench.table(apart)
    stays = [stay for stay in bench.stays(together) if stay.trial.split("/")[0] in METHODS]
    assert max(stay.began for stay in stays) < min(stay.ended or 0 for stay in stays)

    bench.await_event(killed, of_student)
    processes = bench.processes("ray::ImplicitFunc.train")
    assert processes
    for process in processes:
        process.kill()
    assert bench.await_end(killed).state.value == "finished"
    assert bench.numbers(killed) == bench.numbers(apart)
    assert {trial.state for trial in bench.store.trials(killed)} == {TrialState.FINISHED}
    assert sum(trial.losses for trial in bench.store.trials(killed)) >= 1
