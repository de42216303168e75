"""Which measurements a study makes: D_pred for every arm with a known teacher, and what it lists, each once."""

from typing import Any

import pytest

from studies.expand import expand
from studies.parse import parse_study
from studies.planned_measures import PlannedMeasurement
from studies.problems import SpecError
from studies.submission import as_submission

STUDY = {
    "name": "measured",
    "dataset": "digits",
    "seeds": [0, 1],
    "teacher": {"detector": "gfl", "backbone": "resnet34"},
    "student": {"detector": "gfl", "backbone": "resnet18"},
    "arms": [{"id": "alone"}, {"id": "ld", "distiller": "ld"}, {"id": "fgfi", "distiller": "fgfi"}],
    "metrics": ["AP"],
}
TEACHER = "teacher/gfl-resnet34/seed-0"


def measurements(**changes: Any) -> list[PlannedMeasurement]:
    return expand(parse_study(STUDY | changes)).measurements


def problems(**changes: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as refused:
        parse_study(STUDY | changes)
    return {problem.field: problem.message for problem in refused.value.problems}


def test_d_pred_is_measured_of_baselines_and_taught_students_alike() -> None:
    made = measurements(metrics=["AP", "D_pred"])
    assert [(m.id, m.detector, m.teacher) for m in made] == [
        (f"d_pred/{arm}/seed-{seed}", f"{arm}/seed-{seed}", TEACHER) for arm in ("alone", "ld", "fgfi") for seed in (0, 1)
    ]
    assert made[0].title == "D_pred: alone · seed 0"


def test_the_table_s_rows_name_the_jobs_that_complete_them() -> None:
    submission = as_submission(
        parse_study(STUDY | {"metrics": ["AP", "D_pred"], "measure": [{"kind": "nms", "options": {"threshold": 0.9}}]})
    )
    named = {row.id: row.measurements for row in submission.presentation.rows}
    assert named["alone"] == ("d_pred/alone/seed-0", "d_pred/alone/seed-1")
    assert named["teacher/gfl-resnet34"] == ()


def test_a_study_that_does_not_ask_measures_nothing() -> None:
    assert measurements() == []


def test_a_baseline_s_teacher_is_trained_for_its_d_pred_alone() -> None:
    made = expand(parse_study(STUDY | {"arms": [{"id": "alone"}], "metrics": ["D_pred"]}))
    assert [trial.id for trial in made.trials] == ["alone/seed-0", "alone/seed-1", TEACHER]
    assert [trial.teacher for trial in made.trials] == [None, None, None]
    assert [m.teacher for m in made.measurements] == [TEACHER] * 2
    assert [row.id for row in made.rows] == ["teacher/gfl-resnet34", "alone"]


def test_arms_whose_predictions_do_not_compare_are_left_out() -> None:
    arms = [{"id": "alone"}, {"id": "two", "student": {"detector": "faster_rcnn", "backbone": "resnet18"}}]
    arms += [{"id": "nine", "student": {"detector": "retinanet", "backbone": "resnet18"}}]
    arms += [{"id": "fcos", "student": {"detector": "fcos", "backbone": "resnet18"}}]
    assert {m.row for m in measurements(arms=arms, metrics=["D_pred"])} == {"alone", "fcos"}
    assert "one-stage" in problems(arms=arms[1:3], metrics=["D_pred"])["metrics.0"]


def test_pictures_take_the_first_seed_and_numbers_all() -> None:
    made = measurements(measure=[{"kind": "errors"}, {"kind": "costs"}, {"kind": "attention"}, {"kind": "sampling"}])
    assert [m.id for m in made if m.kind == "errors"] == [
        f"errors/{TEACHER}", *(f"errors/{arm}/seed-{seed}" for arm in ("alone", "ld", "fgfi") for seed in (0, 1))
    ]  # fmt: skip
    assert [m.id for m in made if m.kind == "costs"] == [f"costs/{TEACHER}", "costs/alone/seed-0", "costs/ld/seed-0", "costs/fgfi/seed-0"]
    assert [(m.row, m.teacher) for m in made if m.kind == "attention"] == [("alone", TEACHER), ("ld", TEACHER), ("fgfi", TEACHER)]
    assert [(m.row, [use.id for use in m.distillers]) for m in made if m.kind == "sampling"] == [("fgfi", ["fgfi"])]


def test_the_same_measurement_twice_is_one_and_another_option_another() -> None:
    def nms(threshold: float) -> dict[str, Any]:
        return {"kind": "nms", "options": {"threshold": threshold}, "arms": ["ld"]}

    made = measurements(seeds=[0], measure=[nms(0.6), nms(0.95), nms(0.6)])
    assert [(m.id, m.options) for m in made] == [("nms/ld/seed-0", {"threshold": 0.6}), ("nms~2/ld/seed-0", {"threshold": 0.95})]
    assert made[1].title == "suppression at 0.95: ld · seed 0"


def test_equal_arms_are_measured_once() -> None:
    arms = [{"id": "alone"}, {"id": "twin"}]
    made = expand(parse_study(STUDY | {"arms": arms, "metrics": ["D_pred"], "seeds": [0]}))
    assert [m.id for m in made.measurements] == ["d_pred/alone/seed-0"]
    assert [made.measured_by(row) for row in made.rows] == [(), ("d_pred/alone/seed-0",), ("d_pred/alone/seed-0",)]


@pytest.mark.parametrize(
    ("measure", "field", "said"),
    [
        ({"kind": "speed"}, "measure.0.kind", "unknown kind of measurement 'speed'"),
        ({"kind": "nms", "options": {"threshold": 1.5}}, "measure.0.options.threshold", "less than 1"),
        ({"kind": "nms"}, "measure.0.options.threshold", "required"),
        ({"kind": "errors", "arms": ["lf"]}, "measure.0.arms", "no arm 'lf' in this study; its arms: alone, ld, fgfi"),
        ({"kind": "sampling", "arms": ["ld"]}, "measure.0.arms", "sampling reads the weights of"),
    ],
)
def test_a_measurement_that_cannot_be_made_is_refused_by_field(measure: dict[str, Any], field: str, said: str) -> None:
    found = problems(measure=[measure])
    assert said.lower() in found[field].lower()
