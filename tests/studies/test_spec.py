"""The spec: what is accepted, and that every refusal names the field and what would be right."""

from typing import Any

import pytest

from studies.spec import SpecError, StudySpec, parse_study

GOOD: dict[str, Any] = {
    "name": "digits",
    "dataset": "digits",
    "teacher": {"detector": "gfl", "backbone": "resnet34"},
    "student": {"detector": "gfl", "backbone": "resnet18"},
    "arms": [{"id": "student"}, {"id": "fitnet", "distiller": "fitnet"}, {"id": "ld", "distiller": "ld", "options": {"temperature": 5}}],
}


def problems(**changes: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_study(GOOD | changes)
    return {p.field: p.message for p in caught.value.problems}


def test_a_good_spec_gets_the_defaults() -> None:
    spec = parse_study(GOOD)
    assert (spec.scale, spec.seeds, spec.metrics, spec.resources.cpus) == ("nano", [0], ["AP", "AP50", "AP75"], 1)
    assert StudySpec.model_validate(spec.model_dump(mode="json")) == spec


def test_several_distillers_in_one_arm_carry_their_own_weights() -> None:
    arms = [{"id": "both", "distiller": ["fitnet", {"id": "ld", "weight": 0.5, "options": {"temperature": 3}}]}]
    uses = parse_study(GOOD | {"arms": arms}).arms[0].uses()
    assert [(u.id, u.weight) for u in uses] == [("fitnet", 1.0), ("ld", 0.5)]


@pytest.mark.parametrize(
    ("changes", "field", "told"),
    [
        ({"datset": "digits"}, "datset", "did you mean 'dataset'"),
        ({"dataset": "digit"}, "dataset", "did you mean 'digits'"),
        ({"student": {"detector": "yolo9", "backbone": "resnet18"}}, "student.detector", "gfl"),
        ({"student": {"detector": "gfl"}}, "student.backbone", "required"),
        ({"teacher": None}, "arms.1.distiller", "needs a teacher"),
        ({"arms": []}, "arms", "at least 1"),
        ({"arms": [{"id": "a"}, {"id": "a"}]}, "arms.1.id", "used twice"),
        ({"arms": [{"id": "a", "distiller": "fitnett"}]}, "arms.0.distiller", "did you mean 'fitnet'"),
        (
            {"arms": [{"id": "a", "distiller": "ld", "options": {"temprature": 3}}]},
            "arms.0.options.temprature",
            "did you mean 'temperature'",
        ),
        ({"arms": [{"id": "a", "distiller": "ld", "options": {"temperature": -1}}]}, "arms.0.options.temperature", "greater than 0"),
        ({"arms": [{"id": "a", "options": {"x": 1}}]}, "arms.0.options", "need a distiller"),
        ({"arms": [{"id": "a", "distiller": ["fitnet", "ld"], "weight": 2}]}, "arms.0.weight", "each its own"),
        ({"arms": [{"id": "a", "distiller": ["ld", "ld"]}]}, "arms.0.distiller", "twice"),
        ({"arms": [{"id": "../x"}]}, "arms.0.id", "pattern"),
        ({"schedule": {"epochs": 0}}, "schedule.epochs", "greater than or equal to 1"),
        ({"schedule": {"epoch": 3}}, "schedule.epoch", "did you mean 'epochs'"),
        ({"seeds": [1, 1]}, "seeds", "twice"),
        ({"metrics": ["mAP"]}, "metrics", "AP50"),
        ({"name": "a\nb"}, "name", "one line"),
        ({"resources": {"cpus": 0}}, "resources.cpus", "greater than or equal to 1"),
        ({"search": {"space": {"options.temperature": {"grid": []}}, "arms": ["ld"]}}, "search.space.options.temperature", "1 to 100"),
        ({"search": {"space": {"options.temperature": {"choice": [1, 2]}}, "arms": ["ld"]}}, "search.trials", "how many"),
        (
            {"search": {"space": {"options.temperature": {"grid": [0]}}, "arms": ["ld"]}},
            "search.space.options.temperature",
            "greater than 0",
        ),
        ({"search": {"space": {"import.os": {"grid": [0]}}}}, "search.space.import.os", "a path inside an arm"),
        ({"search": {"space": {"weight": {"grid": [1]}}, "arms": ["none"]}}, "search.arms.0", "no arm 'none'"),
    ],
)
def test_a_refusal_names_the_field_and_what_is_right(changes: dict[str, Any], field: str, told: str) -> None:
    found = problems(**changes)
    assert field in found
    assert told in found[field]


def test_a_teacher_whose_head_does_not_fit_is_refused_with_the_reason() -> None:
    found = problems(student={"detector": "retinanet", "backbone": "resnet18"}, teacher={"detector": "retinanet", "backbone": "resnet34"})
    assert "distributions" in found["arms.2.distiller"]


def test_every_problem_is_told_at_once() -> None:
    assert set(problems(dataset="x", seeds=[], metrics=["y"])) >= {"dataset", "seeds", "metrics"}


@pytest.mark.parametrize("data", [None, 3, "text", [], {}])
def test_what_is_no_study_is_refused(data: Any) -> None:
    with pytest.raises(SpecError):
        parse_study(data)
