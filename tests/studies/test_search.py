"""Searches in a spec: what is refused and how, what a combination makes of an arm, and which rows a searched study begins with."""

from typing import Any

import pytest

from studies.expand import Expander, expand
from studies.parse import parse_study
from studies.problems import SpecError
from studies.space import arm_with, combinations_of, factors_of, fresh_seeds, label, planned
from studies.submission import read_submission
from studies.tables.shipped import read_table

SPACE: dict[str, Any] = {
    "ld.options.temperature": {"loguniform": [1, 40]},
    "distiller": {"choice": ["ld", "fitnet"]},
    "weight": {"uniform": [0.1, 2]},
}
GOOD: dict[str, Any] = {
    "name": "a search",
    "dataset": "digits",
    "seeds": [0, 1],
    "teacher": {"detector": "gfl", "backbone": "resnet34"},
    "student": {"detector": "gfl", "backbone": "resnet18"},
    "arms": [{"id": "student"}, {"id": "any", "title": "Any", "distiller": "fitnet", "weight": 3}],
    "search": {"algorithm": "tpe", "trials": 12, "space": SPACE},
}


def study(**changes: Any) -> dict[str, Any]:
    return GOOD | {"search": GOOD["search"] | changes}


def refused(data: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SpecError) as error:
        parse_study(data)
    return {problem.field: problem.message for problem in error.value.problems}


@pytest.mark.parametrize(
    ("changes", "field", "told"),
    [
        ({"trials": None}, "search.trials", "tpe needs `trials`"),
        ({"algorithm": None}, "search.space.ld.options.temperature", "need an `algorithm`"),
        ({"algorithm": None, "scheduler": "asha", "space": {"weight": {"grid": [1]}}}, "search.scheduler", "only with `algorithm`"),
        ({"algorithm": "bayes"}, "search.algorithm", "'grid', 'random', 'tpe'"),
        ({"algorithm": "grid"}, "search.space.weight", "a grid tries listed values"),
        ({"algorithm": "grid", "space": {"weight": {"grid": [1]}}, "first": [{"weight": 1}]}, "search.first", "tries every combination"),
        ({"algorithm": "cmaes", "space": {"weight": {"choice": [1, 2]}}}, "search.algorithm", "lists alone"),
        ({"algorithm": "cmaes", "objective": ["AP", "AP50"]}, "search.algorithm", "one objective"),
        ({"scheduler": "asha", "objective": ["AP", "AP50"]}, "search.scheduler", "several objectives"),
        ({"objective": "Params"}, "search.objective.0", "add it to `metrics`"),
        ({"objective": "ap"}, "search.objective.0.metric", "did you mean 'AP'"),
        ({"objective": ["AP", "AP"]}, "search.objective.0", "twice"),
        ({"space": {"weight": {"uniform": [2, 1]}}}, "search.space.weight", "the lowest value before a higher one"),
        ({"space": {"weight": {"loguniform": [0, 1]}}}, "search.space.weight", "greater than 0"),
        ({"space": {"weight": {"int": [1, 2.5]}}}, "search.space.weight", "two whole numbers"),
        ({"space": {"weight": {"uniform": [0, 1], "choice": [1]}}}, "search.space.weight", "exactly one of"),
        ({"space": {"weight": {"when": {}}}}, "search.space.weight", "exactly one of"),
        ({"space": {"weight": {"uniform": 3}}}, "search.space.weight", "a list of the lowest and the highest"),
        ({"space": {"weight": {"sweep": [1, 2]}}}, "search.space.weight", "list the values by choice"),
        ({"space": {"ld.options.temperature": {"uniform": [1, 2]}}}, "search.space.ld.options.temperature", "does not list"),
        ({"space": SPACE | {"weight": {"uniform": [0, 1], "when": {"distiller": "mgd"}}}}, "search.space.weight", "none of its values"),
        ({"space": SPACE | {"nobody.weight": {"uniform": [0, 1]}}}, "search.space.nobody.weight", "no distiller 'nobody'"),
        (
            {"space": {"weight": {"choice": [1], "when": {"schedule.lr": 2}}, "schedule.lr": {"choice": [2], "when": {"weight": 1}}}},
            "search.space",
            "depends on itself",
        ),
        ({"space": SPACE | {"ld.options.temperature": {"uniform": [1, 400]}}}, "search.space.options.temperature", "equal to 100"),
        ({"space": {"student.detector": {"choice": ["retinanet"]}, "distiller": {"choice": ["ld"]}}}, "search.space.distiller", "with {"),
        ({"space": {"student.backbone": {"choice": ["resnet99"]}}}, "search.space.student.backbone", "unknown backbone"),
        ({"first": [{"weight": 5}]}, "search.first.0.weight", "from 0.1 to 2"),
        ({"first": [{"distiller": "mgd"}]}, "search.first.0.distiller", "none of its values: ld, fitnet"),
        ({"first": [{"alpha": 1}]}, "search.first.0.alpha", "not in the space"),
        ({"arms": ["nobody"]}, "search.arms.0", "no arm 'nobody'"),
        ({"confirm": 0}, "search.confirm", "greater than or equal to 1"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field_and_what_is_right(changes: dict[str, Any], field: str, told: str) -> None:
    found = refused(study(**changes))
    assert field in found, found
    assert told in found[field]


def test_the_lower_end_of_an_interval_needs_two_seeds() -> None:
    found = refused(study(objective={"metric": "AP", "over": "lower"}) | {"seeds": [0]})
    assert "two of them" in found["search.objective.0"]


def test_a_search_begins_with_the_default_on_fresh_seeds_and_other_arms_on_both() -> None:
    spec = parse_study(study(confirm=2))
    assert fresh_seeds(spec) == [2, 3]
    rows = {row.id: row for row in expand(spec).rows}
    assert rows["student"].trials == tuple(f"student/seed-{seed}" for seed in (0, 1, 2, 3))
    assert rows["any"].trials == ("any/seed-2", "any/seed-3")
    assert rows["any"].title == "Any (default)"


def test_a_combination_is_a_row_on_the_studys_seeds_and_its_best_one_on_fresh_ones() -> None:
    expander = Expander(parse_study(study(confirm=1)))
    expander.expansion()
    values = {"distiller": "ld", "ld.options.temperature": 7.25, "weight": 0.5}
    tried = expander.tried(expander.study.arms[1], 4, values)
    assert (tried.row.id, tried.row.title) == ("any~4", "Any [distiller=ld, ld.temperature=7.25, weight=0.5]")
    assert [trial.id for trial in tried.trials] == ["any~4/seed-0", "any~4/seed-1"]
    assert [row.id for row in tried.rows] == ["any~4"]
    assert tried.row.distillers[0].options["temperature"] == 7.25
    best = expander.confirmed(expander.study.arms[1], 4, values)
    assert (best.row.id, [trial.id for trial in best.trials]) == ("any~best-4", ["any~best-4/seed-2"])


def test_a_combination_that_was_tried_is_trained_once_and_a_new_teacher_joins_before_its_student() -> None:
    space = {"teacher.backbone": {"choice": ["resnet34", "resnet50"]}}
    expander = Expander(parse_study(study(space=space)))
    expander.expansion()
    arm = expander.study.arms[1]
    first, again = (expander.tried(arm, number, {"teacher.backbone": "resnet50"}) for number in (1, 2))
    assert [trial.id for trial in first.trials] == ["teacher/gfl-resnet50/seed-0", "any~1/seed-0", "any~1/seed-1"]
    assert (again.trials, again.row.trials) == ([], first.row.trials)


def test_a_distillers_options_go_where_another_is_chosen() -> None:
    spec = parse_study(GOOD)
    assert arm_with(spec, spec.arms[1], {"distiller": "ld"}).weight == 1.0
    assert arm_with(spec, spec.arms[1], {"distiller": "fitnet"}).weight == 3.0


def test_networks_are_changed_in_part_or_as_a_whole() -> None:
    spec = parse_study(GOOD)
    part = arm_with(spec, spec.arms[1], {"student.width": 12}).student
    assert part
    assert (part.detector, part.backbone, part.width) == ("gfl", "resnet18", 12)
    whole = arm_with(spec, spec.arms[1], {"student.width": 4, "student": {"detector": "gfl", "backbone": "resnet50"}}).student
    assert whole
    assert (whole.backbone, whole.width) == ("resnet50", 4)


def test_factors_stand_behind_those_that_they_depend_on_and_count_only_then() -> None:
    factors = factors_of(parse_study(GOOD).search)  # type: ignore[arg-type]
    assert [factor.name for factor in factors] == ["distiller", "weight", "ld.options.temperature"]
    found = list(combinations_of(factors, ranges=True))
    assert len(found) == 2 * 2 + 2
    assert {len(each) for each in found if each["distiller"] == "fitnet"} == {2}


def test_a_grid_plans_its_combinations_and_others_their_trials() -> None:
    listed = {"distiller": {"choice": ["ld", "fitnet"]}, "ld.options.temperature": {"grid": [5, 10, 20]}}
    assert planned(parse_study(study(algorithm="grid", trials=None, space=listed)).search) == 4  # type: ignore[arg-type]
    assert planned(parse_study(study(algorithm="grid", trials=3, space=listed)).search) == 3  # type: ignore[arg-type]
    assert planned(parse_study(GOOD).search) == 12  # type: ignore[arg-type]


def test_values_that_are_no_plain_ones_have_a_label() -> None:
    assert label({"detector": "gfl", "backbone": "resnet18", "width": 12}) == "gfl-resnet18-w12"
    assert label({"backbone": "resnet18", "detector": "gfl", "seed": 3}) == "gfl-resnet18-seed=3"
    assert label(0.5) == 0.5


def test_the_presentation_of_a_searched_study_says_what_is_searched() -> None:
    found = read_submission(study(scheduler="asha", objective=[{"metric": "AP", "over": "lower"}])).presentation
    (search,) = found.searches
    assert (search.arm, search.title, search.planned, search.seeds, search.confirm) == ("any", "Any", 12, (0, 1), (2, 3, 4))
    assert (search.goals[0].metric, search.goals[0].over, search.goals[0].less) == ("AP", "lower", False)
    assert search.default in {row.id for row in found.rows}


def test_a_table_of_a_paper_cannot_be_searched_while_it_runs() -> None:
    table = read_table("zhang2021/figure-5")
    assert table
    with pytest.raises(SpecError, match="known from the beginning"):
        read_submission(table | {"scale": "nano", "search": {"algorithm": "tpe", "trials": 2, "space": {"weight": {"uniform": [0, 1]}}}})
