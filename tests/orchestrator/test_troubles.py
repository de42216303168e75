"""What keeps studies from running is told in sentences that say what to do."""

import sqlite3
from pathlib import Path

import pytest

from orchestrator import troubles as told
from orchestrator.records.schema import Place
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from orchestrator.troubles import disk_troubles, troubles
from studies.submission import as_submission
from tests.orchestrator.conftest import TEACHER, Clock, Driven, a_study


@pytest.fixture
def settings(tmp_path: Path, url: str, store: Store) -> Settings:
    store.beat("jobs")
    return Settings(tmp_path, url, "http://mlflow", "http://mlflow", "auto", "http://ray", concurrent_studies=1)


def test_nothing_is_told_where_all_is_well(store: Store, settings: Settings, driven: Driven) -> None:
    store.driver_lives(driven.id, 1)
    driven.begin(TEACHER)
    assert troubles(store, settings) == []


def test_who_waits_for_devices_says_what_for(store: Store, settings: Settings, driven: Driven) -> None:
    store.create_study(as_submission(a_study(name="the second")))
    store.set_places([Place(study_id=driven.id + 1, number=1, reason="needs 4 GPUs on a node; the largest has 2", expected=None)])
    assert troubles(store, settings) == [f"study {driven.id + 1} (the second): needs 4 GPUs on a node; the largest has 2"]


def test_drivers_that_are_silent_and_studies_without_devices_are_told(
    store: Store, settings: Settings, driven: Driven, clock: Clock
) -> None:
    def of_studies() -> list[str]:
        store.beat("jobs")
        return [line.partition(")")[2].strip(": ") or line for line in troubles(store, settings) if line.startswith("study")]

    clock.seconds += 40
    assert of_studies() == ["waits for its driver to come up, since 40 s; Ray starts it when it has room"]
    store.driver_lives(driven.id, 1)
    assert of_studies() == ["waits for the broker, which has not looked at its trials yet"]
    store.set_places([Place(study_id=driven.id, number=1, reason="waits for devices", expected=None)])
    assert of_studies() == ["waits for devices"]
    clock.seconds += 31
    (silent,) = of_studies()
    assert "its driver has been silent for 31 s and is replaced after 240 s" in silent


def test_a_study_that_keeps_losing_its_attempts_tells_why(store: Store, settings: Settings, driven: Driven) -> None:
    store.end_attempt(driven.id, 1, "Ray no longer knows it")
    (lost,) = troubles(store, settings)
    assert lost.endswith("lost its last 1 attempts without a new epoch and is tried again; the last one: Ray no longer knows it")


def test_loops_in_trouble_or_stuck_and_an_mlflow_that_is_behind_are_told(
    store: Store, settings: Settings, driven: Driven, clock: Clock
) -> None:
    driven.begin(TEACHER)
    clock.seconds += 61
    store.driver_lives(driven.id, 1)
    store.beat("relay", "MlflowException: it does not answer")
    loops = [line for line in troubles(store, settings) if "loop" in line]
    assert loops == [
        "the orchestrator's loop jobs was last seen 61 s ago; if it does not come back: retort down, retort up",
        "the orchestrator's loop relay has trouble and tries again: MlflowException: it does not answer",
    ]
    assert any("MLflow is 61 s behind" in line for line in troubles(store, settings))


def test_what_mlflow_was_not_told_is_named_by_study_with_the_command_that_sends_it_again(
    store: Store, settings: Settings, driven: Driven
) -> None:
    rows = store.outbox(driven.id)
    store.not_sent([row.id for row in rows], "the study: ValueError: no such table", last=True)
    (kept,) = [line for line in troubles(store, settings) if "MLflow" in line]
    told_of = f"MLflow could not be told {len(rows)} changes of study {driven.id}, which are kept for `retort resend`"
    assert kept == f"{told_of}: the study: ValueError: no such table"


def test_a_locked_database_is_told_with_the_command_that_finds_the_culprit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "LOCK_SECONDS", 0.05)
    file = tmp_path / "retort.db"
    store = Store(f"sqlite:///{file}")
    store.beat("jobs")
    configured = Settings(tmp_path, f"sqlite:///{file}", "http://mlflow", "http://mlflow", "auto", "http://ray", concurrent_studies=1)
    culprit = sqlite3.connect(file, isolation_level=None)
    culprit.execute("BEGIN IMMEDIATE")
    (locked,) = troubles(store, configured)
    assert locked == f"the database cannot be written (database is locked); studies wait and lose nothing. Who holds it: fuser {file}"
    culprit.close()
    assert troubles(store, configured) == []
    store.close()


def test_a_disk_that_is_nearly_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk_troubles(tmp_path) == []
    monkeypatch.setattr(told, "LEAST_SHARE", 1.1)  # as if no disk were large enough
    (full,) = disk_troubles(tmp_path)
    assert full.startswith(f"the disk of {tmp_path} has ")
    assert "GB left; below RETORT_LEAST_FREE_MB (512) no trial is started" in full
