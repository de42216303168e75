"""What combinations come to, and which of them are the best."""

from typing import Any

import pytest

from orchestrator.searching.filled import filled
from orchestrator.searching.tried import End, Outcome, Training, Tried, best, end_of
from studies.spec import Objective

AP, PARAMS, LOWER = Objective(metric="AP"), Objective(metric="Params"), Objective(metric="AP", over="lower")


def training(ap: float | None = None, **changes: Any) -> Training:
    known = {"ended": True, "stopped": False, "metrics": None if ap is None else {"AP": ap, "Params": 0.5}, "by_epoch": {}}
    return Training(**(known | changes))


def tried(number: int, *goals: float) -> Tried:
    return Tried(number, f"arm~{number}", {"weight": number / 10}, (), number, number, End(Outcome.DONE, goals))


def test_a_combination_is_worth_the_mean_of_its_seeds_or_the_lower_end_of_their_interval() -> None:
    seeds = [training(40.0), training(42.0), training(44.0)]
    assert end_of(seeds, [AP]) == End(Outcome.DONE, (42.0,))
    found = end_of(seeds, [LOWER, PARAMS])
    assert found
    assert found.goals == pytest.approx((42.0 - 4.303 * 2 / 3**0.5, 0.5), abs=1e-3)


def test_it_has_no_end_while_one_of_its_seeds_has_none() -> None:
    assert end_of([training(40.0), training(ended=False)], [AP]) is None


def test_one_seed_that_failed_fails_it_and_one_that_is_stopped_stops_it() -> None:
    assert end_of([training(40.0), training()], [AP]) == End(Outcome.FAILED)
    stopped = [training(stopped=True, by_epoch={1: 10.0, 2: 20.0}), training(stopped=True, by_epoch={1: 14.0})]
    assert end_of(stopped, [AP]) == End(Outcome.STOPPED, (), {1: 12.0})
    assert end_of([training(40.0), training(stopped=True)], [AP]) == End(Outcome.STOPPED)


def test_a_metric_that_is_no_number_is_a_failure() -> None:
    assert end_of([training(float("nan"))], [AP]) == End(Outcome.FAILED)


def test_the_best_of_one_objective_is_the_earliest_of_the_greatest() -> None:
    stopped = Tried(4, "arm~4", {}, (), 4, 4, End(Outcome.STOPPED, (), {1: 99.0}))
    assert [each.number for each in best([tried(1, 40.0), tried(2, 42.0), tried(3, 42.0), stopped], [AP])] == [2]
    assert best([stopped], [AP]) == []


def test_of_several_objectives_all_that_nothing_beats_are_the_best() -> None:
    found = best([tried(1, 40.0, 2.0), tried(2, 44.0, 3.0), tried(3, 39.0, 2.5), tried(4, 35.0, 1.0), tried(5, 44.0, 3.0)], [AP, PARAMS])
    assert [each.number for each in found] == [2, 1, 4]


def test_the_spec_with_the_best_filled_in_is_a_study_without_search() -> None:
    spec = {
        "name": "a search",
        "dataset": "digits",
        "seeds": [0, 1],
        "teacher": {"detector": "gfl", "backbone": "resnet34"},
        "student": {"detector": "gfl", "backbone": "resnet18"},
        "arms": [{"id": "student"}, {"id": "any", "distiller": "fitnet", "weight": 3}],
        "search": {"algorithm": "tpe", "trials": 4, "space": {"distiller": {"choice": ["ld", "fitnet"]}, "student.width": {"int": [4, 8]}}},
    }
    values = {"distiller": "ld", "ld.options.temperature": 7.5, "student.width": 8}
    one = Tried(3, "any~3", values, (), 1, 2, End(Outcome.DONE, (40.0,)))
    assert filled(spec, {"any": [one]}) == {
        "name": "a search",
        "dataset": "digits",
        "seeds": [0, 1],
        "teacher": {"detector": "gfl", "backbone": "resnet34"},
        "student": {"detector": "gfl", "backbone": "resnet18"},
        "arms": [
            {"id": "student"},
            {
                "id": "any",
                "distiller": "ld",
                "options": {"temperature": 7.5},
                "student": {"detector": "gfl", "backbone": "resnet18", "width": 8},
            },
        ],
    }
    front = filled(spec, {"any": [one, Tried(1, "any~1", {"distiller": "fitnet"}, (), 3, 4, End(Outcome.DONE, (39.0,)))]})
    assert [arm["id"] for arm in front["arms"]] == ["student", "any-3", "any-1"]
    assert front["arms"][2]["weight"] == 3
