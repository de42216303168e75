"""What a search tries next: every algorithm, conditions, fixed points, and the same again from the records of any moment."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.searching.sampling import Sampling
from orchestrator.searching.tried import End, Outcome, Tried
from studies.space import planned
from studies.spec import Search

SPACE = {
    "distiller": {"choice": ["ld", "fitnet"]},
    "ld.options.temperature": {"loguniform": [1, 40]},
    "weight": {"uniform": [0.1, 2]},
    "schedule.epochs": {"int": [2, 6]},
}
NUMBERS = {"options.temperature": {"loguniform": [1, 40]}, "weight": {"uniform": [0.1, 2]}}


def search(**changes: Any) -> Search:
    return Search.model_validate({"algorithm": "tpe", "trials": 20, "space": SPACE, "parallel": 1} | changes)


def end(values: dict[str, Any], number: int, goals: int = 1) -> End:
    """Every sixth fails, every fourth is stopped; else the nearer the weight is to 1.5, the better."""
    value = 50 - 10 * abs(values["weight"] - 1.5) - abs(values.get("ld.options.temperature", 40) - 12) / 10
    if number % 6 == 0:
        return End(Outcome.FAILED)
    if number % 4 == 0 and goals == 1:
        return End(Outcome.STOPPED, (), {1: value - 5, 2: value - 3})
    return End(Outcome.DONE, (value, 3.0 - values["weight"])[:goals])


def run(wanted: Search, made_anew: Callable[[], bool], parallel: int = 1) -> list[Tried]:
    """A search from its beginning to its end; its driver dies where `made_anew` says so, and the next one has the records alone."""
    history: list[Tried] = []
    sampling = Sampling(wanted, "arm")
    place = 0
    while len(history) < planned(wanted) or any(tried.told is None for tried in history):
        if made_anew():
            sampling = Sampling(wanted, "arm", history)
            assert sampling.as_recorded
        open_ = [index for index, tried in enumerate(history) if tried.told is None]
        place += 1
        if len(history) < planned(wanted) and len(open_) < parallel:
            number = len(history) + 1
            history.append(Tried(number, f"arm~{number}", sampling.ask(), (), place))
        else:
            old = history[open_[0]]
            found = end(dict(old.values), old.number, len(wanted.objective))
            sampling.tell(old.number, found)
            history[open_[0]] = Tried(old.number, old.row, old.values, (), old.asked, place, found)
    return history


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "random"},
        {"algorithm": "tpe", "scheduler": "asha"},
        {"algorithm": "tpe", "first": [{"weight": 1.0}, {"distiller": "fitnet", "weight": 0.5}]},
        {"algorithm": "qmc", "space": NUMBERS},
        {"algorithm": "cmaes", "space": NUMBERS, "scheduler": "asha"},
        {"algorithm": "nsga2", "objective": ["AP", "Params"]},
        {"algorithm": "tpe", "objective": ["AP", "Params"]},
        {"algorithm": "grid", "trials": None, "space": {"weight": {"choice": [0.5, 1.0, 1.5]}, "options.temperature": {"grid": [5, 10]}}},
    ],
    ids=lambda changes: "-".join([changes["algorithm"], *sorted(changes.keys() - {"algorithm", "space", "trials"})]),
)
def test_a_driver_killed_at_any_moment_changes_no_suggestion(changes: dict[str, Any], parallel: int) -> None:
    wanted = search(**changes, parallel=parallel)
    drawn = random.Random(0)
    quiet = run(wanted, lambda: False, parallel)
    assert run(wanted, lambda: True, parallel) == quiet
    assert run(wanted, lambda: drawn.random() < 0.3, parallel) == quiet
    assert len({repr(tried.values) for tried in quiet}) > (5 if changes["algorithm"] == "grid" else 12)


def test_other_seeds_and_other_arms_draw_other_combinations() -> None:
    told = [Sampling(search(seed=0), "a").ask(), Sampling(search(seed=1), "a").ask(), Sampling(search(seed=0), "b").ask()]
    assert len({repr(values) for values in told}) == 3


def test_a_distillers_options_are_drawn_where_it_is_chosen() -> None:
    tried = run(search(algorithm="random"), lambda: False)
    assert {(each.values["distiller"], "ld.options.temperature" in each.values) for each in tried} == {("ld", True), ("fitnet", False)}
    temperatures = [each.values["ld.options.temperature"] for each in tried if each.values["distiller"] == "ld"]
    assert all(1 <= temperature <= 40 for temperature in temperatures)
    assert all(isinstance(each.values["schedule.epochs"], int) and 2 <= each.values["schedule.epochs"] <= 6 for each in tried)


def test_fixed_points_come_first_and_what_they_leave_open_is_drawn() -> None:
    sampling = Sampling(search(first=[{"distiller": "ld", "ld.options.temperature": 10.0, "weight": 1.0}]), "arm")
    first = sampling.ask()
    assert (first["distiller"], first["ld.options.temperature"], first["weight"]) == ("ld", 10.0, 1.0)
    assert "schedule.epochs" in first
    assert sampling.ask()["weight"] != 1.0


def test_a_grid_tries_each_combination_once_in_the_order_of_the_space() -> None:
    space = {"distiller": {"choice": ["ld", "fitnet"]}, "ld.options.temperature": {"grid": [5, 10]}}
    wanted = search(algorithm="grid", trials=None, space=space)
    sampling = Sampling(wanted, "arm")
    assert [sampling.ask() for _ in range(planned(wanted))] == [
        {"distiller": "ld", "ld.options.temperature": 5},
        {"distiller": "ld", "ld.options.temperature": 10},
        {"distiller": "fitnet"},
    ]


def test_networks_are_drawn_as_they_are_listed() -> None:
    pairs = [{"detector": "gfl", "backbone": "resnet18", "width": 8}, {"detector": "gfl", "backbone": "resnet34"}]
    sampling = Sampling(search(algorithm="random", space={"student": {"choice": pairs}}), "arm")
    assert all(sampling.ask()["student"] in pairs for _ in range(6))


@pytest.mark.parametrize("algorithm", ["tpe", "cmaes"])
def test_records_of_another_version_of_optuna_are_taken_as_they_are(algorithm: str) -> None:
    wanted = search(algorithm=algorithm, space=NUMBERS)
    history = run(wanted, lambda: False)[:8]
    history[1] = replace(history[1], values={**history[1].values, "weight": 0.777}, end=End(Outcome.DONE, (99.0,)))
    sampling = Sampling(wanted, "arm", history)
    assert sampling.as_recorded == (algorithm == "tpe")  # which asks no more of a history than what was tried
    assert len(sampling.study.trials) == 8
    assert sampling.study.best_trial.params["weight"] == 0.777
    assert sampling.ask() == Sampling(wanted, "arm", history).ask()


def test_tpe_draws_nearer_to_the_best_than_chance_does() -> None:
    def mean_of_last(algorithm: str) -> float:
        found = [
            each for seed in range(3) for each in run(search(algorithm=algorithm, trials=40, seed=seed, space=NUMBERS), lambda: False)[20:]
        ]
        return sum(abs(each.values["weight"] - 1.5) for each in found) / len(found)

    assert mean_of_last("tpe") < 0.7 * mean_of_last("random")
