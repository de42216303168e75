"""The spec: what is accepted, and that every refusal names the field and what would be right."""

import json
from pathlib import Path
from typing import Any

import pytest

from studies.datasets import read_registration
from studies.documents import read_document
from studies.parse import parse_study
from studies.problems import SpecError
from studies.spec import StudySpec
from studies.submission import read_submission

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
        ({"arms": [{"id": "a", "distiller": "ld", "options": {"[": 1}}]}, "arms.0.options.[", "unknown field; allowed: "),
        ({"arms": [{"id": "a", "distiller": [{"id": "ld", "str": 1}]}]}, "arms.0.distiller.0.str", "unknown field; allowed: "),
        ({"arms": [{"id": "a", "options": {"x": 1}}]}, "arms.0.options", "need a distiller"),
        ({"arms": [{"id": "a", "distiller": ["fitnet", "ld"], "weight": 2}]}, "arms.0.weight", "each its own"),
        ({"arms": [{"id": "a", "distiller": ["ld", "ld"]}]}, "arms.0.distiller", "twice"),
        ({"arms": [{"id": "../x"}]}, "arms.0.id", "pattern"),
        ({"schedule": {"epochs": 0}}, "schedule.epochs", "greater than or equal to 1"),
        ({"schedule": {"epoch": 3}}, "schedule.epoch", "did you mean 'epochs'"),
        ({"seeds": [1, 1]}, "seeds", "twice"),
        ({"metrics": ["mAP"]}, "metrics.0", "AP50"),
        ({"metrics": ["AP", "AP_S", "APx"]}, "metrics.1", "did you mean 'APs'"),
        ({"metrics": ["AP", "AP_S", "APx"]}, "metrics.2", "unknown metric"),
        ({"search": {"space": {"weight": {"grid": [1, 1]}}}}, "search.space.weight", "twice"),
        ({"name": "a\nb"}, "name", "one line"),
        ({"resources": {"cpus": 0}}, "resources.cpus", "greater than or equal to 1"),
        ({"resources": {"gpus": 1.5}}, "resources.gpus", "a trial has whole GPUs, or a part of one, such as 0.5"),
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


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_a_precision_that_a_cpu_does_not_compute_is_refused(precision: str) -> None:
    (told,) = problems(precision=precision).values()
    assert told == f"`precision: {precision}` needs a GPU (`resources: {{gpus: 1}}`); on CPUs choose fp32 or bf16"
    assert parse_study(GOOD | {"precision": precision, "resources": {"gpus": 1}}).precision == precision
    assert parse_study(GOOD | {"precision": "bf16"}).precision == "bf16"


@pytest.mark.parametrize("said", ["{group: off}", "{group: 'off'}", "{cpus: 1}"])
def test_a_bare_off_of_yaml_means_no_groups(said: str) -> None:
    document = read_document(json.dumps(GOOD)[:-1] + f", resources: {said}}}", "yaml")
    assert parse_study(document).resources.group == "off"


def test_a_teacher_whose_head_does_not_fit_is_refused_with_the_reason() -> None:
    found = problems(student={"detector": "retinanet", "backbone": "resnet18"}, teacher={"detector": "retinanet", "backbone": "resnet34"})
    assert "distributions" in found["arms.2.distiller"]


BOXES = {"detector": "faster_rcnn", "backbone": "resnet18"}
MASKS = {"detector": "mask_rcnn", "backbone": "resnet34"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"student": MASKS}, "student.detector"),
        ({"teacher": MASKS}, "teacher.detector"),
        ({"teacher": MASKS | {"weights": "zoo/mask-rcnn_r50_fpn_2x_coco"}}, "teacher.detector"),  # at nano it trains
        ({"teacher": MASKS | {"init": "lab/masks"}}, "teacher.detector"),
        ({"arms": [{"id": "a"}, {"id": "b", "student": MASKS}]}, "arms.1.student.detector"),
        ({"arms": [{"id": "a", "distiller": "fitnet", "teacher": MASKS}]}, "arms.0.teacher.detector"),
    ],
)
def test_a_detector_of_masks_is_refused_where_the_dataset_has_none(changes: dict[str, Any], field: str) -> None:
    study = {"arms": [{"id": "student"}, {"id": "fitnet", "distiller": "fitnet"}], "teacher": BOXES, "student": BOXES} | changes
    found = problems(**study, dataset="voc")
    assert found.keys() == {field}
    assert "dataset 'voc' has none; choose a detector of boxes, or a dataset with masks: digits, coco, cityscapes" in found[field]
    for dataset in ("digits", "coco", "cityscapes"):
        parse_study(GOOD | study | {"dataset": dataset})


def test_a_teacher_of_masks_that_is_taken_from_the_store_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    taken = {"dataset": "voc", "scale": "paper", "teacher": MASKS | {"weights": "lab/masks"}, "student": BOXES}
    arms = [{"id": "student"}, {"id": "fitnet", "distiller": "fitnet"}]
    assert parse_study(GOOD | taken | {"arms": arms}).teacher
    assert "metrics.0" in problems(**taken, arms=arms, metrics=["mask_AP"])


@pytest.mark.parametrize("scale", ["nano", "paper"])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "zoo/gfl_r101_fpn_ms-2x_coc",
            "mmdet's zoo has no config 'gfl_r101_fpn_ms-2x_coc' with a checkpoint; did you mean 'zoo/gfl_r101_fpn_ms-2x_coco'?",
        ),
        ("zoo/nothing", "mmdet's zoo has no config 'nothing' with a checkpoint"),
        ("imagenet/resnet101", "'imagenet/resnet101' are weights of a backbone alone"),
    ],
)
def test_weights_that_nobody_published_are_refused(name: str, says: str, scale: str) -> None:
    taught = {"detector": "gfl", "backbone": "resnet101", "weights": name}
    assert problems(scale=scale, teacher=taught)["teacher.weights"].startswith(says)
    arms = [{"id": "student"}, {"id": "fitnet", "distiller": "fitnet", "teacher": taught}]
    assert problems(scale=scale, arms=arms)["arms.1.teacher.weights"].startswith(says)
    parse_study(GOOD | {"scale": scale, "teacher": taught | {"weights": "zoo/gfl_r101_fpn_ms-2x_coco"}})


def test_a_network_starts_from_weights_or_is_taken_with_them_and_is_then_not_taught() -> None:
    student = {"detector": "gfl", "backbone": "resnet18"}
    taken, started = student | {"weights": "lab/own"}, student | {"init": "lab/own"}
    taught = [{"id": "fitnet", "distiller": "fitnet"}]
    for scale in ("smoke", "nano", "paper"):
        parse_study(GOOD | {"scale": scale, "student": taken, "arms": [{"id": "student"}], "measure": []})
        parse_study(GOOD | {"scale": scale, "student": started, "arms": taught})
        told = "the student is taken with the weights 'lab/own' and not trained; to train from them say `init`"
        assert problems(scale=scale, student=taken, arms=taught) == {"arms.0.distiller": told}
    both = problems(student=taken | started, arms=[{"id": "student"}])
    assert both == {"student.init": "a network is taken with its `weights` as it is, or trains from `init`: say one of them"}
    parse_study(GOOD | {"student": student | {"init": "imagenet/resnet18"}, "scale": "paper"})
    assert problems(student=student | {"init": "zoo/nothing"}).keys() == {"student.init"}


def test_weights_of_ones_own_are_those_of_the_store_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))

    def study(name: str, scale: str = "paper") -> dict[str, Any]:
        return {"scale": scale, "teacher": {"detector": "gfl", "backbone": "resnet101", "weights": name}}

    parse_study(GOOD | study("lab/gfl"))  # this machine has no store; the one that trains may
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "manifest.json").write_text(json.dumps({"lab/gfl": {}, "imagenet/resnet50": {}}))
    parse_study(GOOD | study("lab/gfl"))
    assert problems(**study("lab/glf")) == {
        "teacher.weights": "the store of weights has no 'lab/glf'; for a file of yours: retort weights import lab/glf FILE; "
        "did you mean 'lab/gfl'?"
    }
    assert "did you mean 'zoo/gfl_r101_fpn_ms-2x_coco'" in problems(**study("gfl_r101_fpn_ms-2x_coco"))["teacher.weights"]
    assert "teacher.weights" in problems(**study("lab/glf", "nano"))  # those of one's own count there too


def test_a_registered_dataset_has_masks_or_not_from_its_check_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    files = {split: {"annotations": f"{split}.json", "images": split} for split in ("train", "val")}
    (tmp_path / "datasets" / "street.yaml").write_text(json.dumps({"title": "Street", "root": str(tmp_path), "classes": ["car"], **files}))
    study = {"dataset": "street", "student": MASKS, "teacher": None, "arms": [{"id": "a"}], "metrics": ["mask_AP"]}
    parse_study(GOOD | study)  # nobody has looked yet
    registration = read_registration("street", tmp_path)
    assert registration
    manifest = {"source": registration.model_dump(mode="json"), "images": {"train": 4, "val": 2}, "masks": False}
    (tmp_path / "data" / "street").mkdir(parents=True)
    (tmp_path / "data" / "street" / "manifest.json").write_text(json.dumps(manifest))
    found = problems(**study)
    assert "retort data check street" in found["student.detector"]
    assert "metrics.0" in found
    (tmp_path / "data" / "street" / "manifest.json").write_text(json.dumps(manifest | {"masks": True}))
    parse_study(GOOD | study)
    (tmp_path / "data" / "street" / "manifest.json").write_text(json.dumps(manifest | {"source": {}}))
    parse_study(GOOD | study)  # what was looked at is not what is registered now


def test_metrics_that_no_row_could_have_are_refused() -> None:
    assert "mask_rcnn, cascade_mask_rcnn" in problems(metrics=["AP", "mask_AP50"])["metrics.1"]
    assert parse_study(GOOD | {"metrics": ["mask_AP"], "arms": [{"id": "a"}, {"id": "b", "student": MASKS}]})
    assert parse_study(GOOD | {"metrics": ["mAP07", "D_pred", "Params", "FLOPs", "FPS"]})
    assert "one-stage" in problems(metrics=["D_pred"], arms=[{"id": "student"}], teacher=None)["metrics.0"]
    two_stage = {"student": BOXES, "teacher": BOXES, "arms": [{"id": "fitnet", "distiller": "fitnet"}]}
    assert "one-stage" in problems(**two_stage, metrics=["D_pred"])["metrics.0"]


def test_every_problem_is_told_at_once() -> None:
    assert set(problems(dataset="x", seeds=[], metrics=["y"])) >= {"dataset", "seeds", "metrics.0"}


def test_wrong_options_are_told_beside_other_errors_of_their_arm() -> None:
    arm = {"id": "ld", "distiller": "ld", "options": {"temperatur": 3, "loss_weight": -1}, "weight": -2, "schedule": {"epochs": 0}}
    wrong = ["weight", "schedule.epochs", "options.loss_weight", "options.temperatur"]
    assert list(problems(arms=[{"id": "student"}, arm])) == [f"arms.1.{field}" for field in wrong]


@pytest.mark.parametrize("data", [None, 3, "text", [], {}])
def test_what_is_no_study_is_refused(data: Any) -> None:
    with pytest.raises(SpecError):
        parse_study(data)


@pytest.mark.parametrize(
    "changes",
    [
        {f"f{number}": 1 for number in range(40_000)},
        {"metrics": [f"m{number}" for number in range(40_000)]},
        {"arms": [{"id": "a", "distiller": "ld", "options": {f"o{number}": 1 for number in range(40_000)}}]},
        {"arms": [{"id": "a", "distiller": ["fitnet"] * 40_000}]},
        {"arms": [{"id": f"a{a}", "distiller": "ld", "options": {f"o{o}": 1 for o in range(20)}} for a in range(200)]},
        {"columns": ["AP"], "groups": [{"rows": {f"r{number}": {"same_as": f"x{number}"} for number in range(150)}}] * 90},
    ],
)
def test_of_very_many_problems_some_are_told_and_the_rest_counted(changes: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as refused:
        read_submission(GOOD | changes)
    assert 1 <= len(refused.value.problems) <= 101


def test_a_document_of_very_many_values_is_refused() -> None:
    with pytest.raises(SpecError, match="more than 50000 values"):
        read_document(json.dumps({"seeds": [0] * 60_000}), "json")
