"""What is stored outlives the catalogue: a method that was removed or a recipe that was renamed breaks no old study."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.machine import TrialState
from orchestrator.plan import plan
from orchestrator.records.store import Store
from orchestrator.relaying.runs import trial_params, trial_tags
from studies.methods import methods
from studies.recipes import RECIPES
from studies.submission import as_submission
from tests.orchestrator.conftest import ALONE, PUPIL, TEACHER, Driven, a_study, graph_of, train_next, trained


@contextmanager
def without(monkeypatch: pytest.MonkeyPatch, method: str, recipe: str) -> Iterator[None]:
    """As it would be in a version that no longer has them."""
    with monkeypatch.context() as patch:
        patch.delitem(methods(), method)
        patch.delitem(RECIPES, recipe)
        yield


def test_a_finished_study_is_shown_and_planned_beside_as_before(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven = trained(store, tmp_path, a_study())
    study = store.study(driven.id)
    before = {trial.name: (trial_params(trial), trial_tags(study, trial, store.arm_of(trial))) for trial in store.trials(driven.id)}
    presentation = store.presentation(driven.id)
    assert before[PUPIL][0]["distiller"] == "fitnet"
    other = as_submission(a_study(arms=[{"id": "student"}], scale="smoke"))
    with without(monkeypatch, "fitnet", "nano"):
        assert {
            trial.name: (trial_params(trial), trial_tags(study, trial, store.arm_of(trial))) for trial in store.trials(driven.id)
        } == before
        assert store.presentation(driven.id) == presentation
        assert plan(other, store).to_run == 1


def test_what_can_no_longer_be_trained_fails_alone(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    with monkeypatch.context() as patch:
        patch.delitem(methods(), "fitnet")
        while not graph.settle():
            train_next(graph, driven)
    assert {name: driven.trial(name).state for name in (TEACHER, ALONE, PUPIL)} == {
        TEACHER: TrialState.FINISHED,
        ALONE: TrialState.FINISHED,
        PUPIL: TrialState.FAILED,
    }
    assert "unknown distiller 'fitnet'" in str(driven.trial(PUPIL).reason)
