"""From study to trials: order, teachers shared, searched rows, and what a trial key depends on."""

from typing import Any

import pytest

from studies.expand import PlannedTrial, expand
from studies.parse import parse_study
from studies.spec import Network
from studies.trial import TeacherRef
from tests.studies.test_spec import GOOD


def trials(**changes: Any) -> list[PlannedTrial]:
    return expand(parse_study(GOOD | changes)).trials


def test_teachers_come_first_and_one_serves_all_arms_and_seeds() -> None:
    found = trials(seeds=[0, 1])
    assert [t.id for t in found] == [
        "teacher/gfl-resnet34/seed-0",
        *(f"{arm}/seed-{seed}" for arm in ("student", "fitnet", "ld") for seed in (0, 1)),
    ]
    assert [t.teacher for t in found] == [None, None, None, *["teacher/gfl-resnet34/seed-0"] * 4]
    assert {t.role for t in found[1:3]} == {"baseline"}


def test_a_baseline_needs_no_teacher() -> None:
    assert [t.id for t in trials(teacher=None, arms=[{"id": "student"}])] == ["student/seed-0"]


def test_a_grid_makes_a_row_of_each_combination() -> None:
    space = {"options.temperature": {"grid": [5, 10]}, "weight": {"grid": [1, 2, 3]}}
    rows = [t.row for t in trials(search={"space": space, "arms": ["ld"]}) if t.row.startswith("ld")]
    assert len(rows) == len(set(rows)) == 6
    assert rows[0] == "ld~1"
    found = expand(parse_study(GOOD | {"search": {"space": space, "arms": ["ld"]}})).rows
    assert found[-1].title == "ld [temperature=10, weight=3]"


def test_choices_are_drawn_without_repeats_and_the_same_every_time() -> None:
    search = {"space": {"options.temperature": {"choice": list(range(1, 21))}}, "arms": ["ld"], "trials": 5, "seed": 3}
    rows = [[t.row for t in trials(search=search) if t.row.startswith("ld")] for _ in range(2)]
    assert rows[0] == rows[1]
    assert len(set(rows[0])) == 5


def test_nano_networks_have_their_width_and_a_smoke_run_stays_one() -> None:
    teacher, student, *_ = trials()
    assert (teacher.network.width, student.network.width) == (16, 8)
    assert {t.schedule.max_iterations for t in trials(scale="smoke", schedule={"epochs": 50})} == {3}


@pytest.mark.parametrize(("scale", "given", "width"), [("nano", None, 8), ("nano", 12, 12), ("paper", None, None)])
def test_a_doubled_teacher_is_as_wide_as_other_teachers(scale: str, given: int | None, width: int | None) -> None:
    ssd = {"detector": "ssd", "backbone": "vgg16"}
    arms = [{"id": "a", "distiller": "fitnet", "teacher": {**ssd, "form": "doubled", "width": given}}]
    teacher, _ = trials(scale=scale, student=ssd, arms=arms)
    assert teacher.network == Network(**ssd, form="doubled", width=width)  # of which its form makes twice


def test_an_arm_may_have_its_own_teacher_and_schedule() -> None:
    arms = [{"id": "a", "distiller": "fitnet", "teacher": {"detector": "retinanet", "backbone": "resnet50"}, "schedule": {"epochs": 7}}]
    teacher, student = trials(arms=arms)
    assert (teacher.network.detector, student.schedule.epochs) == ("retinanet", 7)


def key(trial: PlannedTrial, sha256: str = "0" * 64, data: str = "d", checkpoint: str = "/a", **changes: Any) -> str:
    study = parse_study(GOOD | changes)
    teacher = TeacherRef(network=study.teacher, checkpoint=checkpoint, sha256=sha256) if trial.teacher else None  # type: ignore[arg-type]
    return trial.resolve(study, teacher).key(data, "code")


def test_a_key_depends_on_what_decides_the_numbers_only() -> None:
    fitnet = next(t for t in trials() if t.row == "fitnet")
    same = key(fitnet)
    assert same == key(fitnet, checkpoint="/elsewhere") == key(fitnet, name="another name", metrics=["AP"])
    whole, part = (key(fitnet, resources={"gpus": gpus, "memory": gpus * 8}) for gpus in (1, 0.25))
    assert whole == part
    others = {key(fitnet, sha256="1" * 64), key(fitnet, data="e"), key(fitnet, resources={"cpus": 2}), whole}
    others |= {key(next(t for t in trials(**c) if t.row == "fitnet"), **c) for c in ({"seeds": [1]}, {"schedule": {"epochs": 9}})}
    assert len(others | {same}) == 7


def test_the_usual_precision_leaves_keys_as_they_were_and_others_are_other_trials() -> None:
    fitnet = next(t for t in trials() if t.row == "fitnet")
    teacher = TeacherRef(network=Network(detector="gfl", backbone="resnet34", width=16), checkpoint="x", sha256="0" * 64)
    spec = fitnet.resolve(parse_study(GOOD), teacher)
    assert "precision" not in spec.identity("d", "c")["trial"]
    assert key(fitnet, precision="fp32") == key(fitnet) != key(fitnet, precision="bf16")
    gpu = {"resources": {"gpus": 1}}
    assert len({key(fitnet, precision=name, **gpu) for name in ("fp32", "tf32", "bf16", "fp16")}) == 4
    usual, rounded = (expand(parse_study(GOOD | change)).identities.values() for change in ({}, {"precision": "bf16"}))
    assert not set(usual) & set(rounded)


def test_an_option_left_out_and_its_default_have_one_key() -> None:
    said = [GOOD["arms"][0], {"id": "fitnet", "distiller": "fitnet", "options": {"region": "whole"}}]
    assert key(trials()[2]) == key(trials(arms=said)[2])


def test_a_trial_that_lacks_its_teacher_cannot_be_resolved() -> None:
    with pytest.raises(ValueError, match="teacher missing"):
        trials()[2].resolve(parse_study(GOOD), None)


def test_a_teachers_weights_are_taken_at_paper_scale_and_it_trains_at_the_others() -> None:
    zoo = {"detector": "gfl", "backbone": "resnet101", "weights": "zoo/gfl_r101_fpn_ms-2x_coco"}
    spec = GOOD | {"teacher": zoo, "arms": [{"id": "fitnet", "distiller": "fitnet"}]}
    for scale, weights in (("paper", "zoo/gfl_r101_fpn_ms-2x_coco"), ("nano", None)):
        study = parse_study(spec | {"scale": scale})
        teacher, student = expand(study).trials[:2]
        assert teacher.weights == weights
        assert teacher.resolve(study, None).weights == weights
        assert student.teacher == teacher.id


def test_weights_of_ones_own_count_at_every_scale_and_make_another_trial() -> None:
    student = {"detector": "gfl", "backbone": "resnet18"}
    arms = [
        {"id": "plain"},
        {"id": "started", "student": student | {"init": "lab/own"}},
        {"id": "taken", "student": student | {"weights": "lab/own"}},
        {"id": "imagenet", "student": student | {"init": "imagenet/resnet18"}},
    ]
    for scale in ("smoke", "nano", "paper"):
        study = parse_study({"name": "x", "dataset": "digits", "scale": scale, "student": student, "arms": arms})
        expansion = expand(study)
        found = [expansion.trial(arm["id"], 0) for arm in arms]
        named = "imagenet/resnet18" if scale == "paper" else None  # the narrow networks are others
        assert [(trial.init, trial.weights) for trial in found if trial] == [
            (None, None),
            ("lab/own", None),
            (None, "lab/own"),
            (named, None),
        ]
        assert len({trial.id for trial in found if trial}) == (4 if named else 3)
        assert all(trial.resolve(study, None).init == trial.init for trial in found if trial)


def test_teachers_that_differ_in_anything_are_two_and_the_same_one_said_otherwise_is_one() -> None:
    teacher = {"detector": "gfl", "backbone": "resnet34"}
    arms = [
        {"id": "a", "distiller": "fitnet", "teacher": teacher},
        {"id": "b", "distiller": "fitnet", "teacher": teacher | {"width": 12}},
        {"id": "c", "distiller": "ld", "teacher": teacher | {"width": 16, "schedule": {"recipe": "nano-teacher"}}},
        {"id": "d", "distiller": "ld", "teacher": teacher | {"seed": 1}},
    ]
    found = trials(arms=arms)
    teachers = [(t.id, t.network.width, t.seed) for t in found if t.role == "teacher"]
    assert teachers == [
        ("teacher/gfl-resnet34/seed-0", 16, 0),
        ("teacher/gfl-resnet34~2/seed-0", 12, 0),
        ("teacher/gfl-resnet34~3/seed-1", 16, 1),
    ]
    assert [t.teacher for t in found if t.role == "distilled"] == [teachers[0][0], teachers[1][0], teachers[0][0], teachers[2][0]]


def test_equal_trainings_are_one_whatever_their_spelling() -> None:
    arms = [
        {"id": "plain"},
        {"id": "spelled", "schedule": {"recipe": "nano"}, "student": {"detector": "gfl", "backbone": "resnet18", "width": 8}},
        {"id": "ld", "distiller": "ld"},
        {"id": "same", "distiller": [{"id": "ld", "weight": 1, "options": {"temperature": 10, "variant": "code"}}]},
        {"id": "both", "distiller": ["ld", "fitnet"]},
        {"id": "turned", "distiller": ["fitnet", "ld"]},
    ]
    found = expand(parse_study(GOOD | {"arms": arms, "seeds": [0, 1]}))
    trials_of = {row.id: row.trials for row in found.rows}
    assert len(found.trials) == 1 + 3 * 2
    assert trials_of["spelled"] == trials_of["plain"] == ("plain/seed-0", "plain/seed-1")
    assert trials_of["same"] == trials_of["ld"]
    assert trials_of["turned"] == trials_of["both"]


def test_a_baseline_that_is_its_own_teacher_trains_once() -> None:
    own = {"detector": "gfl", "backbone": "resnet18", "width": 8}
    found = expand(parse_study(GOOD | {"teacher": own, "seeds": [0, 1], "arms": [{"id": "alone"}, {"id": "self-ld", "distiller": "ld"}]}))
    assert [trial.id for trial in found.trials] == [
        "teacher/gfl-resnet18/seed-0",
        "alone/seed-1",
        "self-ld/seed-0",
        "self-ld/seed-1",
    ]
    assert next(row.trials for row in found.rows if row.id == "alone") == ("teacher/gfl-resnet18/seed-0", "alone/seed-1")


def test_choices_come_from_the_whole_space() -> None:
    space = {"options.temperature": {"choice": [1, 2, 3, 4, 5]}, "weight": {"choice": [value / 10 for value in range(1, 21)]}}
    found = expand(parse_study(GOOD | {"search": {"space": space, "arms": ["ld"], "trials": 60}}))
    drawn = [dict(row.values) for row in found.rows if row.values]
    assert len({tuple(values.items()) for values in drawn}) == 60
    assert {values["options.temperature"] for values in drawn} == {1, 2, 3, 4, 5}
    assert len({values["weight"] for values in drawn}) > 15
    huge = {f"options.{name}": {"choice": list(range(1, 101))} for name in ("temperature", "kd_weight", "imitation_weight", "vlr_weight")}
    assert len(expand(parse_study(GOOD | {"search": {"space": huge, "arms": ["ld"], "trials": 3}})).rows) == 3 + 3


def test_a_sweep_changes_one_factor_at_a_time_around_the_arm() -> None:
    space = {"options.temperature": {"sweep": [5, 20]}, "weight": {"sweep": [0.5, 2]}}
    arms = [{"id": "ld", "distiller": "ld"}]
    found = expand(parse_study(GOOD | {"arms": arms, "search": {"space": space}}))
    rows = [(row.id, dict(row.values), row.distillers[0].options["temperature"], row.distillers[0].weight) for row in found.rows[1:]]
    assert rows == [
        ("ld", {}, 10.0, 1.0),
        ("ld~2", {"options.temperature": 5}, 5.0, 1.0),
        ("ld~3", {"options.temperature": 20}, 20.0, 1.0),
        ("ld~4", {"weight": 0.5}, 10.0, 0.5),
        ("ld~5", {"weight": 2}, 10.0, 2.0),
    ]
