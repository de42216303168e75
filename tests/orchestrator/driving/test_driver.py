"""The driver as a process, where it needs no cluster: what was trained before, what was cancelled, what has no devices."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.machine import StudyState, TrialState
from orchestrator.records.store import Store
from studies.submission import as_submission
from tests.orchestrator.conftest import Driven, a_study, trained
from workers.datasets import prepare


def drive(study: int, attempt: int, home: Path, url: str) -> "subprocess.CompletedProcess[str]":
    """The driver, told of a cluster that is not there."""
    variables = {**os.environ, "RETORT_HOME": str(home), "RETORT_DATABASE_URL": url, "RETORT_RAY": "127.0.0.1:1"}
    command = [sys.executable, "-m", "orchestrator.driving.driver", str(study), str(attempt)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture
def home(tmp_path: Path, data: Path) -> Path:
    (tmp_path / "data").symlink_to(data)
    return tmp_path


def test_what_was_trained_before_is_done_without_a_cluster(store: Store, url: str, home: Path, data: Path) -> None:
    trained(store, home, a_study(), prepare("digits", data))
    study, _ = store.create_study(as_submission(a_study(name="again")))
    assert store.new_attempt(study.id)
    ended = drive(study.id, 1, home, url)
    assert ended.returncode == 0, ended.stderr
    assert store.study(study.id).state == StudyState.FINISHED
    assert {trial.state for trial in store.trials(study.id)} == {TrialState.CACHED}
    assert store.dataset_digest("digits") == prepare("digits", data)


def test_a_study_cancelled_before_its_driver_came_up_is_cancelled(store: Store, url: str, home: Path) -> None:
    study, _ = store.create_study(as_submission(a_study()))
    assert store.new_attempt(study.id)
    assert store.request_cancel(study.id).state == StudyState.CANCELLING
    assert drive(study.id, 1, home, url).returncode == 0
    assert store.study(study.id).state == StudyState.CANCELLED


def test_the_driver_of_an_attempt_that_is_over_writes_nothing(driven: Driven, store: Store, url: str, home: Path) -> None:
    store.end_attempt(driven.id, 1, "killed")
    before = len(store.events(driven.id))
    ended = drive(driven.id, 1, home, url)
    assert ended.returncode == 1
    assert ended.stderr == f"attempt 1 of study {driven.id} is over\n"
    assert len(store.events(driven.id)) == before


def test_a_driver_without_devices_ends_as_planned_and_leaves_its_trials_ready(store: Store, url: str, home: Path, data: Path) -> None:
    study, _ = store.create_study(as_submission(a_study()))
    assert store.new_attempt(study.id)
    ended = drive(study.id, 1, home, url)
    assert ended.returncode == 0, ended.stderr
    (attempt,) = store.attempts(study.id)
    assert attempt.outcome == "it has no devices for now"
    assert (store.study(study.id).state, store.study(study.id).stalls) == (StudyState.QUEUED, 0)
    assert all(trial.key for trial in store.ready_trials(study.id)), "others can tell whose equals they are"


def test_the_driver_comes_up_without_torch_and_without_tune() -> None:
    told = "import sys, orchestrator.driving.driver; print({'torch', 'ray', 'mlflow', 'mmdet', 'alembic'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
