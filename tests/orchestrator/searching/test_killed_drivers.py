"""A search under drivers that die at any moment: real store, graph, Optuna and Tune schedulers, trainings that are formulas, one slot."""

import functools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.driving.source import source_of_code
from orchestrator.machine import StudyState, TrialState
from orchestrator.records.store import Store
from orchestrator.records.unit import Unit
from orchestrator.reporting.build import build
from orchestrator.reporting.rendering import render
from studies.code import code_version
from studies.spec import StudySpec
from studies.submission import as_submission
from tests.orchestrator.conftest import Driven
from tests.orchestrator.searching.formulas import a_search, drive


class Killed(BaseException):
    """The driver's process is gone."""


class Mortal(Store):
    """A store whose driver dies before or after a transaction, where `dies` says so."""

    dies: Callable[[], bool] = staticmethod(lambda: False)

    @contextmanager
    def _unit(self, study_id: int, attempt: int | None = None) -> Iterator[Unit]:
        self._may_die(attempt)
        with super()._unit(study_id, attempt) as unit:
            yield unit
        self._may_die(attempt)

    def _may_die(self, attempt: int | None) -> None:
        if attempt is not None and self.dies():
            raise Killed


@dataclass(frozen=True)
class Told:
    """All that a search came to."""

    tried: Any
    trials: dict[str, tuple[TrialState, int, float | None]]
    table: str
    drivers: int


def run(folder: Path, spec: StudySpec, dies: Callable[[], bool] = lambda: False) -> Told:
    """A study with as many drivers as it takes."""
    folder.mkdir()
    store = Mortal(f"sqlite:///{folder / 'retort.db'}")
    study, _ = store.create_study(as_submission(spec))
    drivers = 0
    while store.study(study.id).state in (StudyState.QUEUED, StudyState.RUNNING):
        queued = {each.study_id: each for each in store.queued_studies()}
        assert queued[study.id].looks or store.waiting_trials(1), "somebody has to drive it"
        attempt = store.new_attempt(study.id)
        assert attempt
        drivers += 1
        store.dies = dies  # type: ignore[method-assign]
        try:
            store.start_attempt(study.id, attempt.number)
            drive(Driven(store, study.id, folder, attempt.number), spec)
        except Killed:
            store.dies = lambda: False  # type: ignore[method-assign]
            if store.live_attempt(study.id):
                store.end_attempt(study.id, attempt.number, "killed", planned=True)
    trials = {trial.name: (trial.state, trial.epoch, (trial.metrics or {}).get("AP")) for trial in store.trials(study.id)}
    table = render(build(store.study(study.id), store.presentation(study.id), store.trials(study.id)), "md")
    told = Told(store.tried(study.id), trials, table, drivers)
    store.close()
    return told


@pytest.fixture(autouse=True)
def _code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources are read once and git is asked once, and not by every driver, which takes most of these tests' time."""
    monkeypatch.setattr("orchestrator.driving.graph.code_version", functools.cache(code_version))
    monkeypatch.setattr("orchestrator.driving.graph.source_of_code", functools.cache(source_of_code))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"parallel": 3, "objective": {"metric": "AP", "over": "lower"}},
        {"algorithm": "cmaes", "scheduler": "hyperband"},
        {"algorithm": "nsga2", "scheduler": "none", "objective": ["AP", "Params"]},
        {"algorithm": "random", "scheduler": "median", "trials": 8},
    ],
    ids=["tpe-asha", "tpe-asha-two-seeds-three-at-once", "cmaes-hyperband", "nsga2-front", "random-median"],
)
def test_drivers_that_die_at_any_moment_change_neither_drawings_nor_rungs(changes: dict[str, Any], tmp_path: Path) -> None:
    spec, drawn = a_search(**changes), random.Random(3)
    quiet = run(tmp_path / "quiet", spec)
    killed = run(tmp_path / "killed", spec, lambda: drawn.random() < 0.02)
    assert quiet.drivers == 1
    assert killed.drivers > 5
    assert killed.tried == quiet.tried
    assert killed.trials == quiet.trials
    assert killed.table == quiet.table
    stopped = sum(state == TrialState.STOPPED for state, _, _ in quiet.trials.values())
    assert (stopped > 1) == (spec.search is not None and spec.search.scheduler != "none")


def test_the_table_shows_the_best_with_fresh_seeds_beside_the_default(tmp_path: Path) -> None:
    told = run(tmp_path / "study", a_search())
    (ld,) = told.tried.values()
    best = max((each for each in ld if each.end.goals), key=lambda each: each.end.goals[0])
    assert f"LD [best of 12: temperature={best.values['options.temperature']:.4g}, weight={best.values['weight']:.4g}]" in told.table
    assert "LD (default)" in told.table
    assert "LD is searched for AP (tpe with asha, trained with seed 0): 12 of 12 combinations tried" in told.table
    assert f"was chosen by AP {best.end.goals[0]:.4g} there; its numbers here are of seeds 1, 2, which chose nothing" in told.table
    assert {name for name in told.trials if name.startswith("ld~best")} == {f"ld~best-{best.number}/seed-{seed}" for seed in (1, 2)}
    assert all(told.trials[f"ld/seed-{seed}"][0] == TrialState.FINISHED for seed in (1, 2))


def test_the_front_of_several_objectives_is_printed_row_by_row(tmp_path: Path) -> None:
    told = run(tmp_path / "study", a_search(algorithm="nsga2", scheduler="none", objective=["AP", "Params"]))
    assert told.table.count("LD [best of 12") >= 2 * 2  # a row, and a sentence on what chose it
