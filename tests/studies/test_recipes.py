"""Recipes in a spec: what is filled in, the learning-rate rule, and what is told or refused."""

from dataclasses import replace
from typing import Any

import pytest

from studies.expand import expand
from studies.parse import parse_study
from studies.problems import SpecError
from studies.recipes import RECIPES
from studies.spec import Network, Schedule
from studies.submission import read_submission
from studies.trial import TrialSpec

RETINANET = Network(detector="retinanet", backbone="resnet50")


def study(**changes: Any) -> dict[str, Any]:
    return {
        "name": "a study",
        "dataset": "coco",
        "scale": "paper",
        "teacher": {"detector": "gfl", "backbone": "resnet101"},
        "student": {"detector": "gfl", "backbone": "resnet50"},
        "arms": [{"id": "student"}, {"id": "ld", "distiller": "ld"}],
        **changes,
    }


@pytest.mark.parametrize(
    ("scale", "detector", "backbone", "form", "dataset", "recipe"),
    [
        ("smoke", "gfl", "resnet18", None, "digits", "smoke"),
        ("nano", "ssd", "vgg16", None, "digits", "nano"),
        ("nano", "mask_rcnn", "resnet18", None, "digits", "nano-two-stage"),
        ("paper", "retinanet", "resnet50", None, "coco", "1x"),
        ("paper", "yolov3", "darknet53", None, "coco", "273e"),
        ("paper", "ssd", "vgg16", None, "coco", "120e"),
        ("paper", "faster_rcnn", "resnet50", None, "cityscapes", "cityscapes-64e"),
        ("paper", "gfl", "resnet50", None, "voc", "voc-12e"),
        ("paper", "ssd", "vgg16", None, "voc", "120e"),
        ("paper", "fcos", "resnet18", "pdf_fpn", "voc", "pdf-70e"),
        ("paper", "fcos", "resnet18", "pdf_fpn", "coco", "pdf-140e"),
    ],
)
def test_a_network_gets_the_usual_recipe(scale: Any, detector: str, backbone: str, form: str | None, dataset: str, recipe: str) -> None:
    resolved = Schedule().resolved(scale, Network(detector=detector, backbone=backbone, form=form), dataset)
    assert resolved.recipe == recipe
    assert resolved.epochs == RECIPES[recipe].epochs
    assert None not in (resolved.batch_size, resolved.lr, resolved.reference_batch)


def test_a_teacher_trains_longer_at_nano_unless_the_study_says_how_long() -> None:
    teacher, student = ({"detector": "gfl", "backbone": backbone} for backbone in ("resnet34", "resnet18"))
    for schedule, wanted in (({}, ("nano-teacher", 4, "nano", 3)), ({"epochs": 7}, ("nano-teacher", 7, "nano", 7))):
        given = study(scale="nano", dataset="digits", teacher=teacher, student=student, schedule=schedule)
        trials = expand(parse_study(given)).trials
        schedules = {trial.role: trial.schedule for trial in trials}
        taught, alone = schedules["teacher"], schedules["baseline"]
        assert (taught.recipe, taught.epochs, alone.recipe, alone.epochs) == wanted


def test_the_learning_rate_follows_the_batch() -> None:
    usual = Schedule().resolved("paper", RETINANET, "coco")
    assert (usual.lr, usual.batch_size, usual.scaled_lr) == (0.01, 16, 0.01)
    small = Schedule(batch_size=4).resolved("paper", RETINANET, "coco")
    assert (small.lr, small.reference_batch, small.scaled_lr) == (0.01, 16, 0.0025)
    own = Schedule(batch_size=4, lr=0.02, reference_batch=8).resolved("paper", RETINANET, "coco")
    assert own.scaled_lr == 0.01


def test_resolving_twice_changes_nothing() -> None:
    once = Schedule(recipe="2x", epochs=6).resolved("paper", RETINANET, "coco")
    assert once.resolved("paper", RETINANET, "coco") == once


def test_milestones_move_with_the_epochs() -> None:
    assert RECIPES["1x"].milestones(12) == (8, 11)
    assert RECIPES["1x"].milestones(24) == (16, 22)
    assert [RECIPES["ld-voc"].milestones(epochs) for epochs in (4, 12, 16)] == [(3,), (9,), (12,)]  # student, self-LD, teacher


def test_an_arm_and_a_teacher_may_have_recipes_of_their_own() -> None:
    spec = parse_study(
        study(
            schedule={"recipe": "2x"},
            teacher={"detector": "gfl", "backbone": "resnet101", "schedule": {"recipe": "ms-2x"}},
            arms=[{"id": "short", "schedule": {"recipe": "1x"}}, {"id": "ld", "distiller": "ld"}],
        )
    )
    assert {t.row: t.schedule.recipe for t in expand(spec).trials} == {"teacher/gfl-resnet101": "ms-2x", "short": "1x", "ld": "2x"}


def test_teachers_that_differ_in_their_schedule_are_two_rows() -> None:
    teacher = {"detector": "gfl", "backbone": "resnet101"}
    arms = [{"id": f"ld{n}", "distiller": "ld", "teacher": {**teacher, "schedule": {"lr": lr}}} for n, lr in enumerate((0.01, 0.02))]
    assert len({t.row for t in expand(parse_study(study(arms=arms))).trials if t.role == "teacher"}) == 2


def test_clip_decay_and_warm_up_are_the_recipes_unless_the_schedule_says_them() -> None:
    usual = Schedule().resolved("paper", RETINANET, "coco")
    assert (usual.clip, usual.weight_decay, usual.warm_up) == (0.0, 1e-4, 500)
    fcos = Schedule().resolved("paper", Network(detector="fcos", backbone="resnet50"), "coco")
    assert fcos.clip == 35.0
    own = Schedule(clip=0, weight_decay=5e-4, warm_up=0).resolved("paper", Network(detector="fcos", backbone="resnet50"), "coco")
    assert (own.clip, own.weight_decay, own.warm_up) == (0, 5e-4, 0)
    assert Schedule().resolved("paper", RETINANET, "voc").warm_up == 0
    spelled = TrialSpec(
        dataset="coco",
        scale="paper",
        network=RETINANET,
        schedule=Schedule(clip=0, warm_up=500).resolved("paper", RETINANET, "coco"),
        seed=0,
    )
    left_out = spelled.model_copy(update={"schedule": usual})
    assert spelled.key("data", "code") == left_out.key("data", "code")
    assert spelled.model_copy(update={"schedule": usual.model_copy(update={"clip": 1.0})}).key("data", "code") != left_out.key(
        "data", "code"
    )


def test_decoupled_features_in_pdf_distils_comparison_train_as_that_paper_does() -> None:
    arms = [{"id": "pdf", "distiller": "defeat", "options": {"variant": "pdf"}}, {"id": "own", "distiller": "defeat"}]
    planned = {trial.row: trial.schedule.clip for trial in expand(parse_study(study(arms=arms))).trials}
    assert (planned["pdf"], planned["own"]) == (0.0, 35.0)


@pytest.mark.parametrize(("method", "clip"), [("fgd", 35.0), ("mgd", 35.0), ("defeat", 35.0), ("fitnet", 0.0)])
def test_a_method_trains_the_papers_networks_with_the_clip_it_states(method: str, clip: float) -> None:
    arms = [{"id": "student"}, {"id": "taught", "distiller": method}, {"id": "own", "distiller": method, "schedule": {"clip": 2}}]
    planned = {trial.row: trial.schedule.clip for trial in expand(parse_study(study(arms=arms))).trials}
    assert {row: planned[row] for row in ("student", "taught", "own")} == {"student": 0.0, "taught": clip, "own": 2.0}
    nano = study(arms=arms, scale="nano", dataset="digits")
    assert {trial.schedule.clip for trial in expand(parse_study(nano)).trials if trial.row != "own"} == {10.0}


def test_an_unknown_recipe_is_refused_with_those_there_are() -> None:
    with pytest.raises(SpecError) as refused:
        parse_study(study(schedule={"recipe": "3x"}))
    (problem,) = refused.value.problems
    assert problem.field == "schedule.recipe"
    assert "1x" in problem.message


@pytest.mark.parametrize("where", ["study", "teacher", "arm"])
def test_a_recipe_with_mixed_images_is_for_the_networks_that_learn_from_them(where: str) -> None:
    recipe = {"schedule": {"recipe": "pdf-70e"}}
    teacher = {"detector": "gfl", "backbone": "resnet101"}
    changes: dict[str, Any] = {
        "study": recipe,
        "teacher": {"teacher": {**teacher, **recipe}},
        "arm": {"arms": [{"id": "student", **recipe}]},
    }[where]
    with pytest.raises(SpecError) as refused:
        parse_study(study(**changes))
    field = {"study": "schedule.recipe", "teacher": "teacher.schedule.recipe", "arm": "arms.0.schedule.recipe"}[where]
    assert field in {p.field for p in refused.value.problems}
    assert "pdf_fpn" in refused.value.problems[0].message


def warnings(data: dict[str, Any]) -> list[str]:
    return list(read_submission(data).presentation.warnings)


def test_a_loss_that_takes_another_number_of_images_than_published_is_told() -> None:
    (told,) = warnings(study())
    assert told == "ld: the loss of LD depends on how many images a device has: 3 where it was published, here 2 or 3"
    told, _ = warnings(study(schedule={"batch_size": 16, "accumulate": 16}))
    assert told.endswith("3 where it was published, here 1")
    (told,) = warnings(study(schedule={"batch_size": 16}, resources={"gpus": 8}))
    assert told.endswith("3 where it was published, here 2")
    (told,) = warnings(study(schedule={"batch_size": 24}, arms=[{"id": "ld", "distiller": "ld", "per_device_images": 4096}]))
    assert told.endswith("3 where it was published, here 24")
    means = [
        {"id": "ld", "distiller": "ld", "options": {"main_ld": False, "imitation": "whole"}},
        {"id": "fitnet", "distiller": "fitnet"},
    ]
    assert warnings(study(arms=means)) == []


@pytest.mark.parametrize("schedule", [{"batch_size": 24}, {"batch_size": 24, "accumulate": 8}, {"batch_size": 12, "accumulate": 2}])
def test_nothing_is_told_where_parts_of_the_batch_are_as_published(schedule: dict[str, Any]) -> None:
    assert not [sentence for sentence in warnings(study(schedule=schedule)) if "images a device has" in sentence]


def test_what_trains_otherwise_than_its_recipe_says_is_told() -> None:
    arms = [{"id": "student"}, {"id": "fgd", "distiller": "fgd"}, {"id": "mgd", "distiller": "mgd"}]
    arms += [{"id": "own", "distiller": "fitnet", "schedule": {"average": 0.999, "frozen_stages": 2, "weight_decay": 0.0001}}]
    assert warnings(study(arms=arms)) == [
        "fgd, mgd: trained with clip 35 (recipe 1x has 0)",
        "own: trained with moving average of the weights 0.999 (recipe 1x has 0), frozen stages 2 (the network has its own)",
    ]
    taken = {"detector": "gfl", "backbone": "resnet101", "weights": "zoo/gfl_r101_fpn_ms-2x_coco"}
    told = warnings(study(arms=[{"id": "fitnet", "distiller": "fitnet"}], teacher=taken, schedule={"clip": 1, "val_interval": 2}))
    assert told == ["fitnet: trained with clip 1 (recipe 1x has 0), epochs between evaluations 2 (recipe 1x has 1)"]  # its teacher is not


def test_average_and_frozen_stages_are_the_recipes_unless_the_schedule_says_them() -> None:
    usual = Schedule().resolved("paper", RETINANET, "coco")
    assert (usual.average, usual.frozen_stages) == (0.0, None)
    assert Schedule().resolved("nano", RETINANET, "digits").average == 0.998
    code = Schedule(recipe="pdf-code-140e").resolved("paper", Network(detector="fcos", backbone="resnet18", form="pdf_fpn"), "coco")
    assert (code.epochs, code.average, code.warm_up) == (140, 0.9998, 500)
    spec = TrialSpec(dataset="coco", scale="paper", network=RETINANET, schedule=usual, seed=0)
    changes = ({"average": 0.999}, {"frozen_stages": 0}, {"frozen_stages": 2})
    keys = {spec.model_copy(update={"schedule": usual.model_copy(update=change)}).key("data", "code") for change in changes}
    assert len(keys | {spec.key("data", "code")}) == 4


@pytest.mark.parametrize("where", ["study", "teacher", "arm"])
def test_frozen_stages_are_for_backbones_that_have_such(where: str) -> None:
    frozen = {"schedule": {"frozen_stages": 2}}
    small = {"detector": "ssd", "backbone": "vgg16"}
    changes: dict[str, Any] = {
        "study": {**frozen, "student": small, "arms": [{"id": "student"}], "teacher": None},
        "teacher": {"teacher": {**small, **frozen}},
        "arm": {"arms": [{"id": "student", "student": small, **frozen}]},
    }[where]
    with pytest.raises(SpecError) as refused:
        parse_study(study(**changes))
    field = {"study": "schedule.frozen_stages", "teacher": "teacher.schedule.frozen_stages", "arm": "arms.0.schedule.frozen_stages"}[where]
    told = {problem.field: problem.message for problem in refused.value.problems}
    assert "VGG-16 has no stages that can be kept from training" in told[field]


def test_a_changed_recipe_gives_another_trial_key(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TrialSpec(dataset="coco", scale="paper", network=RETINANET, schedule=Schedule(recipe="2x"), seed=0)
    before = spec.key("data", "code")
    monkeypatch.setitem(RECIPES, "1x", replace(RECIPES["1x"], decay=(9, 11)))
    assert spec.key("data", "code") == before  # another recipe
    monkeypatch.setitem(RECIPES, "2x", replace(RECIPES["2x"], decay=(17, 22)))
    assert spec.key("data", "code") != before


def test_images_per_device_are_refused_where_they_change_nothing() -> None:
    arms: list[dict[str, Any]] = [
        {"id": "alone", "per_device_images": 2},
        {"id": "mean", "distiller": "fitnet", "per_device_images": 2},
        {"id": "listed", "distiller": [{"id": "ld", "per_device_images": 2}, {"id": "fgd", "per_device_images": 2}]},
        {"id": "over", "distiller": ["ld", "fitnet"], "per_device_images": 2},
        {"id": "good", "distiller": "ld", "options": {"average": "weight_sum"}, "per_device_images": 2},
    ]
    with pytest.raises(SpecError) as refused:
        parse_study(study(arms=arms))
    told = {p.field: p.message for p in refused.value.problems}
    assert list(told) == [f"arms.{at}per_device_images" for at in ("0.", "1.", "2.distiller.1.", "3.")]
    assert told["arms.1.per_device_images"] == (
        "with these options the loss of FitNet is a mean over images, the same however many a device has; leave it out"
    )
    assert "give each its own" in told["arms.3.per_device_images"]


def test_an_arm_gives_images_per_device_to_its_distiller() -> None:
    arms = [{"id": "ld", "distiller": "ld", "per_device_images": 2}, {"id": "published", "distiller": "ld"}]
    planned = read_submission(study(arms=arms)).expansion.trials
    assert [trial.distillers[0].per_device_images for trial in planned if trial.distillers] == [2, 3]
