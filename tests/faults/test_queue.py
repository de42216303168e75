"""The fair queue on a real stack with devices for one trial: who is urgent gets them, and nobody's numbers change."""

from typing import Any

from orchestrator.machine import TrialState
from tests.faults.conftest import EPOCHS, Bench
from tests.faults.test_kills import first_epoch

ONE_AT_A_TIME = {"resources": {"cpus": 2}}
LONGER = {"schedule": {"recipe": "smoke", "epochs": EPOCHS, "batch_size": 4, "max_iterations": 12}}  # long enough to be asked in between


def test_a_trial_makes_room_for_an_urgent_study_and_goes_on_with_the_same_numbers(bench: Bench) -> None:
    alone = bench.submit("undisturbed, one at a time", **LONGER, **ONE_AT_A_TIME)
    assert bench.await_end(alone).state.value == "finished"
    low = bench.submit("of low priority", force=True, **LONGER, **ONE_AT_A_TIME)
    bench.await_event(low, first_epoch)
    high = bench.submit("urgent", seeds=[7], **ONE_AT_A_TIME)
    bench.store.set_priority(high, 1)
    bench.await_event(low, lambda event: event.kind == "note" and "makes room" in event.data["text"])
    assert bench.await_end(high).state.value == "finished"
    assert bench.store.study(low).state.value in ("queued", "running")
    bench.hold_against(low, alone)
    assert [trial.losses for trial in bench.store.trials(low)] == [0] * 4
    assert bench.store.study(low).stalls == 0
    urgent = [event.time for event in bench.store.events(high) if event.kind == "trial"]
    during = [event for event in bench.store.events(low) if event.kind == "epoch" and urgent[0] < event.time < urgent[-1]]
    assert not during, "the devices were the urgent study's until it was done"


def test_a_paused_study_gives_its_devices_back_and_goes_on_when_it_is_told_to(bench: Bench) -> None:
    study = bench.submit("paused", force=True, seeds=[3], **LONGER, **ONE_AT_A_TIME)
    bench.await_event(study, first_epoch)
    bench.store.set_paused(study, True)
    bench.await_event(study, lambda event: event.kind == "note" and "makes room" in event.data["text"])
    other = bench.submit("while it is paused", seeds=[4], **ONE_AT_A_TIME)
    assert bench.await_end(other).state.value == "finished"
    assert bench.store.counts(study)[TrialState.RUNNING] == 0
    bench.store.set_paused(study, False)
    assert bench.await_end(study).state.value == "finished"


def test_three_studies_of_two_owners_share_two_slots_and_every_table_is_that_of_a_quiet_machine(bench: Bench) -> None:
    # The first one may have both slots until a trial of it ends, and is to be at work still when the second has had an epoch.
    longest = {"schedule": LONGER["schedule"] | {"max_iterations": 100}}
    asked: dict[str, dict[str, Any]] = {
        "of ada": {"owner": "ada", "seeds": [11], **longest},
        "of bob": {"owner": "bob", "seeds": [12], **longest},
        "urgent, of bob": {"owner": "bob", "seeds": [13]},
    }
    arms = [{"id": "student"}, {"id": "fitnet", "distiller": "fitnet"}]
    quiet = {}
    for name, spec in asked.items():
        quiet[name] = bench.submit(f"{name}, alone", arms=arms, **spec)
        assert bench.await_end(quiet[name]).state.value == "finished"
    busy = {name: bench.submit(name, force=True, arms=arms, **asked[name]) for name in ("of ada", "of bob")}
    for study in busy.values():
        bench.await_event(study, first_epoch)
    busy["urgent, of bob"] = urgent = bench.submit("urgent, of bob", force=True, arms=arms, priority=5, **asked["urgent, of bob"])
    assert bench.await_end(urgent).state.value == "finished"
    assert not any(bench.store.study(busy[name]).state.final for name in ("of ada", "of bob")), "the urgent study came last and ended first"
    for name, study in busy.items():
        assert bench.await_end(study).state.value == "finished"
        assert bench.numbers(study) == bench.numbers(quiet[name])
        assert bench.table(study) == bench.table(quiet[name])
        assert [trial.losses for trial in bench.store.trials(study)] == [0] * 3
    stays = {name: bench.stays(study) for name, study in busy.items()}
    left = [name for name, of_study in stays.items() for stay in of_study if stay.outcome == TrialState.READY]
    assert 1 <= len(left) <= 2, "room for the teacher and the baseline of the urgent study, and no more"
    assert "urgent, of bob" not in left
    for moment in (stay.began for of_study in stays.values() for stay in of_study):
        at_work = [stay for of_study in stays.values() for stay in of_study if stay.began <= moment < (stay.ended or 0)]
        assert len(at_work) <= 2
