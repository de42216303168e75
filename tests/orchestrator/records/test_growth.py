"""Trials that join a study while it runs: behind those that are there, waiting for what they need, and failed where that has failed."""

from pathlib import Path

from orchestrator.machine import TrialState
from orchestrator.records.store import Store
from studies.expand import Expander
from studies.tables.present import row_of
from tests.orchestrator.conftest import Driven
from tests.orchestrator.searching.formulas import a_search

TEACHER = "teacher/gfl-resnet34/seed-0"


def draw(driven: Driven, number: int, weight: float) -> None:
    spec = a_search()
    expander = Expander(spec)
    expander.expansion()
    grown = expander.tried(spec.arms[1], number, {"weight": weight})
    assert driven.store.record_drawing(driven.id, 1, "ld", number, {"weight": weight}, grown)


def test_a_combination_joins_behind_all_others_and_waits_for_its_teacher(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path, a_search())
    before = store.trials(driven.id)
    draw(driven, 1, 0.5)
    trial = store.trials(driven.id)[-1]
    assert (trial.name, trial.state, trial.lacking) == ("ld~1/seed-0", TrialState.WAITING, 1)
    assert trial.position == len(before)
    assert sum(store.counts(driven.id).values()) == len(before) + 1
    driven.train(TEACHER)
    assert driven.trial("ld~1/seed-0").state == TrialState.READY
    draw(driven, 2, 0.7)
    assert driven.trial("ld~2/seed-0").state == TrialState.READY


def test_a_drawing_that_is_told_again_is_recorded_once(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path, a_search())
    draw(driven, 1, 0.5)
    draw(driven, 1, 0.5)
    assert [tried.number for tried in store.tried(driven.id)["ld"]] == [1]
    assert [trial.name for trial in store.trials(driven.id)].count("ld~1/seed-0") == 1


def test_a_combination_whose_teacher_has_failed_fails_with_it(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path, a_search())
    driven.begin(TEACHER)
    driven.fail(TEACHER, "nan", "the loss became NaN")
    draw(driven, 1, 0.5)
    trial = driven.trial("ld~1/seed-0")
    assert (trial.state, trial.reason) == (TrialState.FAILED, f"it needs {TEACHER}, which failed")


def test_nothing_is_drawn_for_a_study_that_is_being_cancelled(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path, a_search())
    store.request_cancel(driven.id)
    spec = a_search()
    expander = Expander(spec)
    expander.expansion()
    grown = expander.tried(spec.arms[1], 1, {"weight": 0.5})
    assert store.record_drawing(driven.id, 1, "ld", 1, {"weight": 0.5}, grown) is None
    assert store.tried(driven.id) == {}


def test_the_best_gets_its_row_behind_the_default_once(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path, a_search())
    spec = a_search()
    expander = Expander(spec)
    expander.expansion()
    grown = expander.confirmed(spec.arms[1], 3, {"weight": 0.5})
    for _ in range(2):
        assert store.record_found(driven.id, 1, "ld", [(grown, row_of(grown.row, grown.measured_by))])
    presentation = store.presentation(driven.id)
    assert [row.id for row in presentation.rows] == ["teacher/gfl-resnet34", "student", "ld", "ld~best-3"]
    assert presentation.searches[0].found == ("ld~best-3",)
    assert presentation.rows[-1].trials == ("ld~best-3/seed-1", "ld~best-3/seed-2")


def test_a_trial_without_promise_keeps_its_epochs_and_is_nobodys_result(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path, a_search())
    driven.begin("student/seed-0", "same")
    driven.epoch("student/seed-0", 1)
    assert store.stop_trials(driven.id, 1, ["student/seed-0"], driven.fences) == ["student/seed-0"]
    assert driven.trial("student/seed-0").state == TrialState.STOPPED
    assert store.epochs_of(driven.id, "AP") == {"student/seed-0": {1: 10.0}}
    assert store.finished_trials(["same"]) == {}
