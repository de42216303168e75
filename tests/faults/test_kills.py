"""`kill -9` in the middle of a real study: it ends by itself with the numbers of an undisturbed one."""

import subprocess
import sys

import pytest

from orchestrator.records.schema import Event
from tests.faults.conftest import Bench


def first_epoch(event: Event) -> bool:
    return event.kind == "epoch" and event.data["epoch"] == 1


def test_the_driver_is_killed(bench: Bench, undisturbed: int) -> None:
    study = bench.submit("the driver is killed", force=True)
    bench.await_event(study, first_epoch)
    (driver,) = bench.processes("orchestrator.driving.driver", f" {study} 1")
    driver.kill()
    bench.hold_against(study, undisturbed)
    assert [attempt.number for attempt in bench.store.attempts(study)] == [1, 2]


def test_a_trial_process_is_killed(bench: Bench, undisturbed: int) -> None:
    study = bench.submit("a trial process is killed", force=True)
    bench.await_event(study, first_epoch)
    bench.processes("ray::ImplicitFunc")[0].kill()
    bench.hold_against(study, undisturbed)
    assert len(bench.store.attempts(study)) == 1
    lost = [event for event in bench.store.events(study) if event.kind == "trial" and event.data["losses"] == 1]
    assert next(event.data["state"] for event in lost) == "ready"


@pytest.mark.parametrize(
    "part", ["orchestrator.service", "api.app:create_app", "mlflow server", "dashboard.py", "log_monitor.py", "monitor.py"]
)
def test_a_part_of_the_stack_is_killed(bench: Bench, undisturbed: int, part: str) -> None:
    study = bench.submit(f"{part} is killed", force=True)
    bench.await_event(study, first_epoch)
    for process in bench.processes(part):
        process.kill()
    bench.hold_against(study, undisturbed)
    assert len(bench.store.attempts(study)) == 1


def test_a_cancelled_study_stops_in_good_order_and_resumes_to_the_same_numbers(bench: Bench, undisturbed: int) -> None:
    study = bench.submit("cancelled and resumed", force=True)
    bench.await_event(study, first_epoch)
    assert bench.store.request_cancel(study).state.value == "cancelling"
    assert bench.await_end(study).state.value == "cancelled"
    assert [attempt.outcome for attempt in bench.store.attempts(study)] == ["stopped"]
    states = {trial.state.value for trial in bench.store.trials(study)}
    assert states <= {"finished", "cancelled"}
    bench.await_mlflow(study)
    assert bench.store.request_resume(study).state.value == "queued"
    bench.hold_against(study, undisturbed)


def test_an_equal_study_is_done_without_training(bench: Bench, undisturbed: int) -> None:
    study = bench.submit("an equal study")
    bench.hold_against(study, undisturbed)
    assert {trial.state.value for trial in bench.store.trials(study)} == {"cached"}


SUBMIT_AGAIN = """
from orchestrator.driving.jobs import Jobs
from orchestrator.settings import settings
from orchestrator.records.store import Store
store = Store(settings().database)
jobs = Jobs(store, settings())
jobs._submit(store.attempts({study})[0])
listed = jobs._ray._good(jobs._ray._send("GET", "/api/jobs/")).json()
print(sum(job["submission_id"] == "study-{study}-a1" for job in listed))
"""


def test_an_attempt_that_is_submitted_twice_runs_once(bench: Bench, undisturbed: int) -> None:
    """As a service does that died before it saw Ray's answer."""
    command = [sys.executable, "-c", SUBMIT_AGAIN.format(study=undisturbed)]
    told = subprocess.run(command, env=bench.stack.environment(), capture_output=True, text=True, check=True)
    assert told.stdout.split()[-1] == "1"
    notes = [event.data["text"] for event in bench.store.events(undisturbed) if event.kind == "note"]
    assert notes.count("attempt 1 started") == 1
