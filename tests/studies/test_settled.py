"""Options left out and spelled out at the value that they stand for: one trial, for every method, pair of detectors and option."""

from collections.abc import Iterator
from typing import Any

import pytest

from studies.catalog import DETECTORS, FORMS, Detector, in_form
from studies.expand import expand
from studies.methods import Method, Options, methods
from studies.parse import parse_study
from studies.spec import MethodUse, Network
from studies.trial import TeacherRef, TrialSpec
from tests.studies.test_spec import GOOD, problems

# Options whose null is a value of its own where teacher and student are of one family: "where the weights fit".
VALUES = {("fgd", "inherit"), ("mgd", "inherit")}
STATED = {"frs": {"alpha": 0.01, "beta": 0.05}}  # where nothing is published
NETWORKS = [Network(detector=name, backbone=detector.backbones[0]) for name, detector in DETECTORS.items()]
NETWORKS += [
    Network(detector=name, backbone=in_form(name, form.id).backbones[0], form=form.id) for form in FORMS.values() for name in form.detectors
]


def choices(method: Method) -> Iterator[Options]:
    """The method's options as they are, and with each of its words and switches set otherwise: what the open ones follow from."""
    yield method.options()
    for name, field in method.options.model_json_schema()["properties"].items():
        for way in [field, *field.get("anyOf", [])]:
            values = way.get("enum") or ([True, False] if way.get("type") == "boolean" else [])
            for value in values:
                if value != field.get("default"):
                    yield method.options.model_validate({name: value})


def fitting(method: Method) -> Iterator[tuple[Network, Network, Options]]:
    """Pairs of the catalogue, students and teachers, that the method takes with some of its options."""
    for student in NETWORKS:
        for teacher in NETWORKS:
            for options in choices(method):
                if method.misfit(student.family, teacher.family, options) is None:
                    yield student, teacher, options
                stated = options.model_copy(update=STATED.get(method.id, {}))
                if stated != options and method.misfit(student.family, teacher.family, stated) is None:
                    yield student, teacher, stated


def key(student: Network, teacher: Network, method: str, options: dict[str, Any], per_device_images: int | None = None) -> str:
    """The trial key of a training written by hand."""
    ref = TeacherRef(network=teacher, checkpoint="/a", sha256="0" * 64)
    schedule = {"recipe": "1x"}
    trial = TrialSpec.model_validate(
        {"dataset": "coco", "scale": "paper", "network": student, "schedule": schedule, "seed": 0, "teacher": ref}
    )
    use = MethodUse(id=method, options=options, per_device_images=per_device_images)
    return trial.model_copy(update={"distillers": [use]}).key("data", "code")


@pytest.mark.parametrize("name", methods())
def test_settled_options_leave_nothing_open_and_are_settled_already(name: str) -> None:
    method, count = methods()[name], 0
    for student, teacher, options in fitting(method):
        pair = student.family, teacher.family
        settled, count = method.settled(options, *pair), count + 1
        own = {option for method_id, option in VALUES if method_id == name and student.detector == teacher.detector}
        assert [option for option, value in settled if value is None and option not in own] == [], (student, teacher)
        assert all(value == getattr(settled, option) for option, value in options if value is not None)
        assert method.settled(settled, *pair) == settled
        assert method.misfit(*pair, settled) is None
        assert method.options.model_validate(settled.model_dump(mode="json")) == settled
        assert method.per_device_images_of(settled) == method.per_device_images_of(options)
    assert count > 0


@pytest.mark.parametrize("name", methods())
def test_an_option_left_out_has_the_key_of_the_one_spelled_out(name: str) -> None:
    method = methods()[name]
    for student, teacher, options in fitting(method):
        settled = method.settled(options, student.family, teacher.family).model_dump(mode="json")
        left = {option: value for option, value in options.model_dump(mode="json").items() if option in options.model_fields_set}
        expected = key(student, teacher, name, settled)
        assert key(student, teacher, name, left) == expected
        for option, value in settled.items():
            assert key(student, teacher, name, {**left, option: value}) == expected, option


@pytest.mark.parametrize("name", methods())
def test_images_per_device_left_out_have_the_key_of_the_published_ones(name: str) -> None:
    method, (student, teacher, options) = methods()[name], next(fitting(methods()[name]))
    told = options.model_dump(mode="json", exclude_unset=True)
    published = method.per_device_images_of(method.settled(options, student.family, teacher.family))
    expected = key(student, teacher, name, told)
    assert key(student, teacher, name, told, per_device_images=published) == expected
    assert (key(student, teacher, name, told, per_device_images=5) == expected) == (published is None)


def test_a_study_has_the_settled_options_of_each_arms_own_pair() -> None:
    other = {"detector": "retinanet", "form": "distribution"}
    arms = [
        {"id": "open", "distiller": "ld"},
        {"id": "null", "distiller": "ld", "options": {"loss_weight": None, "vlr_weight": None}},
        {"id": "told", "distiller": "ld", "options": {"loss_weight": 0.25, "sides": "each", "average": "none"}},
        {"id": "whole", "distiller": "ld", "options": {"loss_weight": 1, "kd_weight": 10}},
        {
            "id": "retinanet",
            "distiller": "ld",
            "student": {**other, "backbone": "resnet18"},
            "teacher": {**other, "backbone": "resnet34"},
        },
    ]
    found = expand(parse_study(GOOD | {"arms": arms}))
    trials = {row.id: row.trials for row in found.rows if row.role == "distilled"}
    assert trials["null"] == trials["told"] == trials["open"] == ("open/seed-0",)
    assert trials["whole"] == ("whole/seed-0",)
    weights = [t.distillers[0].options["loss_weight"] for t in found.trials if t.role == "distilled"]
    assert weights == [0.25, 1.0, 5.0]


def test_variants_stay_two_trials_as_they_are_printed() -> None:
    told = {"average": "none", "vlr": "code", "sides": "each"}
    pair = [Network(detector="gfl", backbone=backbone) for backbone in ("resnet18", "resnet34")]
    assert key(*pair, "ld", {"variant": "code", **told}) != key(*pair, "ld", {"variant": "paper", **told})


@pytest.mark.parametrize(
    ("method", "detector", "options", "settled"),
    [
        ("crosskd", "fcos", {}, {"cls_weight": 0.4, "reg_weight": 0.75, "centerness_weight": 0.0}),
        ("crosskd", "atss", {"reg_weight": 2}, {"cls_weight": 1.0, "reg_weight": 2.0, "centerness_weight": 1.0}),
        ("defeat", "faster_rcnn", {}, {"neck_foreground": 3.0, "neck_background": 12.0, "head": True}),
        ("defeat", "faster_rcnn", {"variant": "pdf"}, {"neck_foreground": 2.0, "neck_background": 8.0, "head": False}),
        ("defeat", "gfl", {"neck_background": 0}, {"neck_foreground": 3.0, "neck_background": 0.0, "head": False}),
        ("fbkd", "gfl", {}, {"at_weight": 0.024, "am_weight": 0.00042, "nld_weight": 0.00042, "temperature": 0.1, "mask_channel": True}),
        ("fbkd", "mask_rcnn", {}, {"at_weight": 0.004, "am_weight": 7e-5, "mask_channel": False}),
        ("fgfi", "retinanet", {"form": "paper"}, {"loss_weight": 0.01, "start_iteration": 400}),
        ("frs", "gfl", {}, {"alpha": 0.1, "beta": 0.05}),
        ("frs", "faster_rcnn", {"beta": 0}, {"alpha": 0.002, "beta": 0.0}),
        ("mgd", "cascade_rcnn", {}, {"loss_weight": 5e-7, "masked": 0.45, "inherit": False}),
        ("mgd", "gfl", {}, {"loss_weight": 2e-5, "masked": 0.65, "inherit": None}),
        ("pad", "gfl", {"variant": "pdf"}, {"loss_weight": 5.0}),
        ("pdf_distil", "fcos", {"variant": "paper"}, {"strategy": "l2"}),
        ("pkd", "grid_rcnn", {}, {"loss_weight": 6.0}),
    ],
)
def test_an_option_left_out_is_the_published_value(method: str, detector: str, options: dict[str, Any], settled: dict[str, Any]) -> None:
    family: Detector = DETECTORS[detector]
    found = MethodUse(id=method, options=options).resolved(family, family).options
    assert {name: found[name] for name in settled} == settled


def test_frs_asks_for_weights_that_nobody_published() -> None:
    pair = {role: {"detector": "atss", "backbone": backbone} for role, backbone in (("student", "resnet18"), ("teacher", "resnet34"))}
    told = problems(**pair, arms=[{"id": "frs", "distiller": "frs"}])
    assert told == {
        "arms.0.distiller": "FRS has no published weights for ATSS: state options.alpha and options.beta (published alpha and beta: "
        "RetinaNet 0.005 and 0.02, GFL 0.1 and 0.05, FCOS 0.01 and 0.05, Faster R-CNN 0.002 and 0.1)"
    }
    parse_study(GOOD | pair | {"arms": [{"id": "frs", "distiller": "frs", "options": {"alpha": 0.01, "beta": 0.05}}]})
    atss = DETECTORS["atss"]
    with pytest.raises(ValueError, match=r"state options\.beta"):
        MethodUse(id="frs", options={"alpha": 0.01}).resolved(atss, atss)


@pytest.mark.parametrize(
    ("method", "old", "new"),
    [
        ("pdf_distil", {"factor": 2.0}, {"loss_weight": 2.0}),
        ("fgfi", {"form": "pdf"}, {"variant": "pdf"}),
        ("defeat", {"form": "pdf"}, {"variant": "pdf"}),
        ("pad", {"form": "pdf"}, {"variant": "pdf"}),
    ],
)
def test_a_former_name_of_an_option_says_what_todays_says(method: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    student, teacher = (Network(detector="gfl", backbone=backbone) for backbone in ("resnet18", "resnet34"))
    assert key(student, teacher, method, old) == key(student, teacher, method, new)
    assert MethodUse(id=method, options=old).resolved(student.family, teacher.family).options.keys().isdisjoint(old)
    told = problems(arms=[{"id": "a", "distiller": method, "options": old | new}])
    (former,), (today,) = old, new
    assert told["arms.0.options"].endswith(f"{former!r} is the former name of {today!r}: say one of them")
