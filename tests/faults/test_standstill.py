"""SIGSTOP in the middle of a real study: what stands still misses its deadline, is ended with the reason, and its work is done anew."""

import signal

from orchestrator.records.schema import Event
from tests.faults.conftest import Bench


def first_epoch(event: Event) -> bool:
    return event.kind == "epoch" and event.data["epoch"] == 1


def test_a_trial_that_stands_still_is_lost_within_its_deadline_and_trained_again(bench: Bench, undisturbed: int) -> None:
    study = bench.submit("a trial stands still", force=True)
    bench.await_event(study, first_epoch)
    bench.processes("ray::ImplicitFunc")[0].send_signal(signal.SIGSTOP)
    bench.hold_against(study, undisturbed)
    assert len(bench.store.attempts(study)) == 1
    (lost,) = [event.data for event in bench.store.events(study) if event.kind == "trial" and event.data["losses"] == 1][:1]
    assert lost["state"] == "ready"


def test_a_driver_that_stands_still_is_replaced_within_its_deadline(bench: Bench, undisturbed: int) -> None:
    study = bench.submit("a driver stands still", force=True)
    bench.await_event(study, first_epoch)
    (driver,) = bench.processes("orchestrator.driving.driver", f" {study} 1")
    driver.send_signal(signal.SIGSTOP)
    bench.hold_against(study, undisturbed)
    first, second = bench.store.attempts(study)
    assert (first.outcome or "").startswith("its driver gave no sign of life for 2")
    assert second.outcome == "done"
