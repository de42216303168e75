"""Studies that want the same devices and the same trials at once."""

from tests.faults.conftest import Bench


def test_two_studies_with_equal_trials_and_devices_for_one_trial_both_end(bench: Bench) -> None:
    """Whoever waits for a trial of the other must not hold the devices that it needs."""
    changes = {"resources": {"cpus": 2}, "seeds": [5]}
    first, second = (bench.submit(f"shared, {name}", **changes) for name in ("first", "second"))
    assert bench.await_end(first).state.value == "finished"
    assert bench.await_end(second).state.value == "finished"
    assert bench.numbers(first) == bench.numbers(second)
    states = [trial.state.value for study in (first, second) for trial in bench.store.trials(study)]
    assert sorted(states) == ["cached"] * 4 + ["finished"] * 4  # each trained once, by one of them
