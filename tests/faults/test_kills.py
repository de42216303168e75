"""`kill -9` in the middle of a real study: it ends by itself with the numbers of an undisturbed one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import Bench, first_epoch


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
    notes = [event.data["text"] for event in bench.store.events(study) if event.kind == "note"]
    assert [note.partition(" was lost: ")[2] for note in notes if " was lost: " in note] == ["its process died"]


@pytest.mark.parametrize("part", ["orchestrator.service", "api.app:create_app", "mlflow_server", "dashboard.py"])
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
import sys
from orchestrator.cluster.ray_api import RayCluster
from orchestrator.settings import settings
cluster = RayCluster(settings().ray_jobs)
before = cluster.job(sys.argv[1])
cluster.submit("touch " + sys.argv[2], sys.argv[1], {})
assert before and before.status == "SUCCEEDED" and cluster.job(sys.argv[1]) == before, (before, cluster.job(sys.argv[1]))
"""


def test_an_attempt_that_is_submitted_twice_runs_once(bench: Bench, undisturbed: int, tmp_path: Path) -> None:
    """As a service does that died before it saw Ray's answer."""
    (attempt,) = bench.store.attempts(undisturbed)
    command = [sys.executable, "-c", SUBMIT_AGAIN, attempt.submission, str(tmp_path / "ran")]
    subprocess.run(command, env=bench.stack.environment(), check=True)
    bench.hold_against(bench.submit("a study after it"), undisturbed)  # in this time a second job would have run
    assert not (tmp_path / "ran").exists()
