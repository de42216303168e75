"""A planned stop: checkpoints are asked for, attempts end without counting, and the drivers that were at it can write no more."""

import threading
import time
from pathlib import Path

import pytest

from orchestrator.driving.pausing import Paused, pause
from orchestrator.machine import StudyState, TrialState
from orchestrator.records.errors import Superseded
from orchestrator.records.store import Store
from orchestrator.storage.files import SharedFolder
from studies.trial import CHECKPOINT_NOW
from tests.orchestrator.conftest import ALONE, TEACHER, Driven


def write_when_asked(folder: Path) -> None:
    """What a trial's process does between two steps."""
    while not (folder / CHECKPOINT_NOW).exists():
        time.sleep(0.01)
    (folder / "last.pt").write_bytes(b"the state")
    (folder / CHECKPOINT_NOW).unlink()


def test_a_planned_stop_asks_for_checkpoints_and_costs_the_study_nothing(store: Store, driven: Driven, tmp_path: Path) -> None:
    for name in (TEACHER, ALONE):
        driven.begin(name)
    folders = [tmp_path / str(trial.folder) for trial in store.trials(driven.id) if trial.state == TrialState.RUNNING]
    for folder in folders:
        folder.mkdir(parents=True)
    writer = threading.Thread(target=write_when_asked, args=(folders[0],))
    writer.start()
    store.files = SharedFolder(tmp_path)
    assert pause(store, "the stack goes down", seconds=1.0) == Paused([driven.id], asked=2, written=1)
    writer.join()
    assert (folders[0] / "last.pt").exists()
    assert not any((folder / CHECKPOINT_NOW).exists() for folder in folders)
    study = store.study(driven.id)
    assert (study.state, study.stalls) == (StudyState.QUEUED, 0)
    assert [attempt.outcome for attempt in store.attempts(study.id)] == ["the stack goes down"]
    assert TrialState.RUNNING not in {trial.state for trial in store.trials(study.id)}
    with pytest.raises(Superseded):
        store.record_epoch(study.id, 1, TEACHER, 1, 2, {"AP": 1.0}, fence=1)
    assert store.new_attempt(study.id) is not None


def test_without_studies_there_is_nothing_to_wait_for(store: Store) -> None:
    assert pause(store, "the stack goes down") == Paused([], 0, 0)
