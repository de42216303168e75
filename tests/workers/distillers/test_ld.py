"""Localization Distillation: switches, defaults by detector, regions, what backward reaches, images without objects."""

import pytest
import torch

from studies.catalog import DETECTORS, Detector
from studies.methods import methods
from studies.methods.ld import METHOD, LDOptions
from studies.spec import MethodUse
from tests.workers.synthetic import CLASSES, Scene, scene
from workers.distillation.captures import Assignment
from workers.distillation.student import build_distiller
from workers.distillers.ld import LD
from workers.geometry.boxes import best_boxes, decode_distribution, points_inside

ALL = {"main_ld": True, "vlr_ld": True, "main_kd": True, "vlr_kd": True}
NAMES = {"main_ld": "loss_ld", "vlr_ld": "loss_ld_vlr", "main_kd": "loss_ld_kd", "vlr_kd": "loss_ld_kd_vlr"}
REACHES = {"main_ld": {"boxes"}, "vlr_ld": {"boxes"}, "main_kd": {"logits"}, "vlr_kd": {"logits"}}
IMITATIONS = ["whole", "gt_boxes", "main", "finegrained", "decouple", "gibox"]
HEADS = [("gfl", 1), ("retinanet", 9), ("fcos", 1), ("atss", 1)]


def ld(scene: Scene, **options: object) -> LD:
    torch.manual_seed(1)
    made = build_distiller(MethodUse(id="ld", options=options), scene.student, scene.teacher)
    assert isinstance(made, LD)
    return made


def settled(detector: str, **options: object) -> LDOptions:
    found = METHOD.settled(LDOptions.model_validate(options), DETECTORS[detector], DETECTORS[detector])
    assert isinstance(found, LDOptions)
    return found


@pytest.mark.parametrize(("detector", "anchors"), HEADS)
@pytest.mark.parametrize("term", list(NAMES))
def test_each_term_stands_alone_and_reaches_its_branch(term: str, detector: str, anchors: int) -> None:
    s = scene(detector, anchors)
    losses = ld(s, **{name: name == term for name in NAMES})(s.step)
    assert set(losses) == {NAMES[term]}
    assert losses[NAMES[term]].item() > 0
    assert s.reached(losses) == REACHES[term]


@pytest.mark.parametrize("imitation", IMITATIONS)
def test_imitation_reaches_the_neck(imitation: str) -> None:
    s = scene(teacher_channels=6)
    losses = ld(s, main_ld=False, imitation=imitation)(s.step)
    assert set(losses) == {"loss_ld_im"}
    assert losses["loss_ld_im"].item() > 0
    assert s.reached(losses) == {"neck"}


def test_features_need_an_adapter_only_where_channels_differ() -> None:
    assert not list(ld(scene(teacher_channels=6), imitation="main").parameters())
    s = scene()
    method = ld(s, main_ld=False, imitation="main")
    method(s.step)["loss_ld_im"].backward()
    assert [a.weight.shape[:2] for a in method.imitation.adapters] == [(8, 6)] * 3
    assert not list(ld(s).parameters())


@pytest.mark.parametrize(("detector", "anchors"), HEADS)
@pytest.mark.parametrize("imitation", IMITATIONS)
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_images_without_objects_are_finite_and_teach_no_boxes(variant: str, imitation: str, detector: str, anchors: int) -> None:
    s = scene(detector, anchors, objects=False)
    losses = ld(s, **ALL, imitation=imitation, variant=variant)(s.step)
    assert len(losses) == 5
    for name in NAMES.values():
        assert losses[name].item() == 0
    assert s.reached(losses) <= {"neck"}
    if imitation in {"gt_boxes", "main", "finegrained"}:
        assert losses["loss_ld_im"].item() == 0


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"loss_ld"}),
        ({"loss_weight": 0}, set()),
        ({"vlr_ld": True, "vlr_weight": 0}, {"loss_ld"}),
        ({"main_kd": True, "vlr_kd": True, "kd_weight": 0}, {"loss_ld"}),
        ({"imitation": "whole", "imitation_weight": 0}, {"loss_ld"}),
    ],
)
def test_zero_weight_leaves_a_loss_out(options: dict[str, object], names: set[str]) -> None:
    s = scene()
    assert set(ld(s, **options)(s.step)) == names


def test_the_same_network_as_teacher_gives_zero() -> None:
    s = scene()
    s.step.teacher.boxes, s.step.teacher.logits = (
        tuple(m.detach() for m in maps) for maps in (s.step.student.boxes, s.step.student.logits)
    )
    losses = ld(s, **ALL)(s.step)
    assert all(abs(value.item()) < 1e-6 for value in losses.values())
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(sum(losses.values()), [*s.step.student.boxes, *s.step.student.logits]))


@pytest.mark.parametrize(
    ("detector", "weight", "vlr", "temperature", "sides", "exclude"),
    [
        ("gfl", 0.25, 0.0625, 2, "each", False),
        ("retinanet", 5.0, 0.15, 8, "joint", True),
        ("fcos", 0.25, 0.0625, 2, "each", True),
        ("atss", 0.25, 0.0375, 2, "each", False),
    ],
)
def test_weights_by_detector_are_the_released_ones(
    detector: str, weight: float, vlr: float, temperature: float, sides: str, exclude: bool
) -> None:
    options = settled(detector)
    assert (options.loss_weight, options.vlr_weight) == pytest.approx((weight, vlr))
    assert (options.kd_temperature, options.sides, options.exclude_positives) == (temperature, sides, exclude)
    assert (options.average, options.vlr) == ("none", "code")


def test_the_papers_variant_keeps_sides_apart_sums_bins_divides_and_uses_true_diou() -> None:
    options = settled("retinanet", variant="paper")
    assert (options.sides, options.average, options.vlr, options.loss_weight) == ("each", "weight_sum", "paper", 0.25)
    assert settled("gfl", variant="paper", average="none", vlr="code", sides="joint").loss_weight == 5
    s, values = scene(), {}
    for variant in ("paper", "code"):
        values[variant] = ld(s, variant=variant, average="none")(s.step)["loss_ld"].item()
    assert values["paper"] == pytest.approx(17 * values["code"], rel=1e-5)


def test_main_ld_of_one_box_is_the_formula() -> None:
    s = scene()
    labels = s.step.student.of(Assignment).labels
    for level in labels:
        level.fill_(CLASSES)
    labels[1][1, 4 * 3 + 2] = 0  # image 1, level 1, y 3, x 2
    ours, theirs = (o.boxes[1][1, :, 3, 2].view(4, 17) for o in (s.step.student, s.step.teacher))
    p, q = (theirs / 7).softmax(1), (ours / 7).softmax(1)
    row = 49 * (p * (p / q).log()).mean(1)
    weight = s.step.student.logits[1][1, :, 3, 2].sigmoid().max()
    value = ld(s, temperature=7, loss_weight=2)(s.step)["loss_ld"]
    assert value.item() == pytest.approx((2 * weight * row.sum() / 4).item(), rel=1e-5)


def test_positives_leave_the_valuable_region_when_excluded() -> None:
    s = scene()
    kept, left = (ld(s, vlr_ld=True, exclude_positives=e).valuable(s.step, [torch.ones(2, n, n, 1, dtype=torch.bool) for n in (8, 4, 2)])
                  for e in (False, True))  # fmt: skip
    assert len(kept[1]) > 0
    assert len(left[1]) == 0


def test_the_valuable_region_of_points_is_every_point_in_a_box() -> None:
    s = scene("fcos")
    anchors = s.step.anchors()
    s.step.anchors = lambda: [(a[:, :2] + a[:, 2:]) / 2 for a in anchors]  # anchor-free: (x, y) alone
    (image, row), weights = ld(s, vlr_ld=True, exclude_positives=False).valuable(s.step, [])
    inside = torch.cat([points_inside(points, s.step.gt_boxes[0]).any(1) for points in s.step.anchors()])
    assert row[image == 0].tolist() == inside.nonzero().flatten().tolist()
    assert len(weights) > 10


def test_individual_ld_silences_the_students_own_box_losses() -> None:
    assert ld(scene(), individual_ld=True).own_loss_factors() == {"loss_bbox": 0.0, "loss_dfl": 0.0}
    assert ld(scene()).own_loss_factors() == {}


def test_the_divisor_is_the_sum_of_the_weights_and_at_least_one() -> None:
    s = scene()
    for lowered, expected in ((0.0, None), (20.0, 1.0)):
        s.step.student.logits = tuple(level - lowered for level in s.step.student.logits)
        divided = ld(s, average="weight_sum")
        weights = divided.weight_sum(s.step).item()
        assert weights > 1 if expected is None else weights < 1
        ratio = ld(s, average="none")(s.step)["loss_ld"] / divided(s.step)["loss_ld"]
        assert ratio.item() == pytest.approx(expected or weights, rel=1e-5)


def test_suppression_takes_the_best_boxes_of_each_image() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]], [[0, 0, 10, 10], [50, 0, 60, 10], [80, 0, 90, 10]]])
    scores = torch.tensor([[0.5, 0.9, 0.1], [0.1, 0.2, 0.3]])
    index, valid = best_boxes(boxes, scores, overlap=0.3, keep=10)
    assert [i[v].tolist() for i, v in zip(index, valid, strict=True)] == [[1, 2], [2, 1, 0]]


def test_decoding_puts_the_sides_at_the_expected_bins() -> None:
    logits = torch.full((1, 4 * 17), -50.0)
    for side, distance in enumerate((1, 2, 3, 4)):
        logits[0, side * 17 + distance] = 50.0
    torch.testing.assert_close(decode_distribution(logits, torch.tensor([[40.0, 50.0]]), 8), torch.tensor([[32.0, 34.0, 64.0, 82.0]]))


def test_distributions_and_anchors_are_needed_only_by_terms_that_read_them() -> None:
    method = methods()["ld"]
    plain = Detector("retinanet", "RetinaNet", "", frozenset({"neck", "dense_logits", "anchors"}))
    points = Detector("fcos", "FCOS", "", frozenset({"neck", "dense_logits", "points", "distribution"}))
    assert method.misfit(points, points, LDOptions()) is None
    assert "anchor boxes" in (method.misfit(points, points, LDOptions(imitation="finegrained")) or "")
    bars = Detector("retinanet", "RetinaNet", "", plain.traits | {"distribution"})
    assert method.misfit(bars, bars, LDOptions()) is None
    assert method.misfit(plain, plain, LDOptions(main_ld=False, main_kd=True, imitation="main")) is None
    for options in (LDOptions(), LDOptions(main_ld=False, vlr_ld=True), LDOptions(main_ld=False, imitation="gibox")):
        sentence = method.misfit(bars, plain, options)
        assert sentence is not None
        assert "the teacher's RetinaNet does not have" in sentence
