"""Chen, Li, FGFI, DeFeat, OFD and PAD on a synthetic step: terms and switches, where gradients go, images without objects."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from studies.catalog import DETECTORS, Detector
from studies.methods import methods
from studies.spec import MethodUse
from studies.trial import TrialFailure
from tests.workers.synthetic import CLASSES, ONE, STUDENT_STAGES, TEACHER_STAGES, TWO, Kind, make_step, network
from workers.distillation.base import Distiller
from workers.distillation.captures import Assignment, Backbone, RoIs
from workers.distillation.step import Step
from workers.distillation.student import build_distiller
from workers.distillers.chen2017 import bounded_regression, deltas_of, soft_objectness
from workers.distillers.ofd import PreReLU, margins, partial_distance
from workers.distillers.pad import Branch, pdf_terms

NECK = {"loss_defeat_neck_foreground", "loss_defeat_neck_background"}
HEAD = {"loss_defeat_head_foreground", "loss_defeat_head_background"}
BACKBONE = {"loss_defeat_backbone_foreground", "loss_defeat_backbone_background"}
CHEN = {f"loss_chen_{name}" for name in ("rpn_cls", "rpn_box", "roi_cls", "roi_box", "hint")}

# method, options, step, names of the losses
TERMS: list[tuple[str, dict[str, Any], Kind, set[str]]] = [
    ("chen2017", {}, TWO, CHEN),
    ("chen2017", {"mu": 1}, TWO, {"loss_chen_rpn_box", "loss_chen_roi_box", "loss_chen_hint"}),
    ("chen2017", {"nu": 0, "gamma": 0}, TWO, {"loss_chen_rpn_cls", "loss_chen_roi_cls"}),
    ("chen2017", {"rpn": False, "hint": "l1"}, TWO, {"loss_chen_roi_cls", "loss_chen_roi_box", "loss_chen_hint"}),
    ("chen2017", {"roi": False}, TWO, {"loss_chen_rpn_cls", "loss_chen_rpn_box", "loss_chen_hint"}),
    ("li2017", {}, TWO, {"loss_li_mimic"}),
    ("li2017", {"loss_weight": 0}, TWO, set()),
    ("fgfi", {}, ONE, {"loss_fgfi"}),
    ("fgfi", {"variant": "paper"}, ONE, {"loss_fgfi"}),
    ("fgfi", {"variant": "pdf"}, ONE, {"loss_fgfi"}),
    ("fgfi", {"variant": "pdf", "loss_weight": 0}, ONE, set()),
    ("defeat", {}, ONE, NECK),
    ("defeat", {}, TWO, NECK | HEAD),
    ("defeat", {"head": False}, TWO, NECK),
    ("defeat", {"neck_foreground": 0, "neck_background": 0, "head_background": 0}, TWO, {"loss_defeat_head_foreground"}),
    ("defeat", {"backbone_foreground": 1, "backbone_background": 1}, ONE, NECK | BACKBONE),
    ("defeat", {"variant": "pdf"}, ONE, NECK),
    ("defeat", {"variant": "pdf", "neck_foreground": 0}, ONE, {"loss_defeat_neck_background"}),
    ("pad", {}, ONE, {"loss_pad"}),
    ("pad", {"variant": "pdf"}, ONE, {"loss_pad"}),
    ("pad", {"loss_weight": 0}, ONE, set()),
    ("ofd", {}, ONE, {"loss_ofd"}),
    ("ofd", {"loss_weight": 0}, ONE, set()),
]
each_term = pytest.mark.parametrize(("method", "options", "kind", "names"), TERMS)


class Block(nn.Module):
    """The last block of a stage, as far as OFD looks at it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm2 = nn.BatchNorm2d(channels)


class Backboned(nn.Module):
    """A detector of which OFD needs the stages' last batch norms."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.res_layers = [f"layer{i}" for i in range(1, 5)]  # type: ignore[assignment]
        for name, width in zip(self.backbone.res_layers, channels, strict=True):  # type: ignore[arg-type]
            setattr(self.backbone, name, nn.ModuleList([Block(width)]))


def build(method: str, options: dict[str, Any], kind: Kind) -> Distiller:
    """The distiller of a method for the synthetic pair of networks."""
    torch.manual_seed(1)
    student, teacher = network(kind, False, Backboned(STUDENT_STAGES)), network(kind, True, Backboned(TEACHER_STAGES))
    return build_distiller(MethodUse(id=method, options=options), student, teacher)


def student_tensors(step: Step, distiller: Distiller) -> dict[str, tuple[Tensor, ...]]:
    """What of the student the distiller says that it reads, by name."""
    read = {"neck": step.student.neck}
    if PreReLU in distiller.captures:
        read = {"pre_relu": step.student.of(PreReLU)}
    if Backbone in distiller.captures:
        read["backbone"] = step.student.of(Backbone)[1:]
    return read


@each_term
def test_losses_are_named_finite_and_positive(method: str, options: dict[str, Any], kind: Kind, names: set[str]) -> None:
    losses = build(method, options, kind)(make_step(kind))
    assert losses.keys() == names
    assert all(value.shape == () and torch.isfinite(value) and value > 0 for value in losses.values())


@each_term
def test_gradients_reach_every_part_that_is_trained(method: str, options: dict[str, Any], kind: Kind, names: set[str]) -> None:
    distiller, step = build(method, options, kind), make_step(kind)
    losses = distiller(step)
    if not losses:
        return
    sum(losses.values(), start=torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    for name, parameter in distiller.named_parameters():
        assert parameter.grad is not None, f"{name} is trained by nothing"
        assert torch.isfinite(parameter.grad).all()
    adapters = [name for name, parameter in distiller.named_parameters() if parameter.grad.abs().sum() > 0]  # type: ignore[union-attr]
    reached = {name for name, maps in student_tensors(step, distiller).items() if any(m.grad is not None for m in maps)}
    if any(part in name for name in names for part in ("hint", "fgfi", "neck", "pad")):
        assert "neck" in reached
        assert adapters
    if any("backbone" in name for name in names):
        assert all(m.grad is not None for m in step.student.of(Backbone)[1:])
    if method == "ofd":
        assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in step.student.of(PreReLU))
    if "loss_chen_rpn_box" in names:
        assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in step.student.boxes)
    if "loss_chen_roi_box" in names:
        deltas = step.student.of(RoIs).deltas
        assert deltas is not None
        assert deltas.grad is not None
    if method == "li2017":
        assert step.student.of(RoIs).features.grad is not None


@each_term
def test_images_without_objects_give_a_finite_loss_and_gradient(method: str, options: dict[str, Any], kind: Kind, names: set[str]) -> None:
    distiller, step = build(method, options, kind), make_step(kind, objects=False)
    losses = distiller(step)
    assert losses.keys() == names
    for name, value in losses.items():
        assert torch.isfinite(value)
        if method == "fgfi" or name.endswith(("foreground", "_box")):
            assert value == 0
    if losses:
        sum(losses.values(), start=torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in distiller.parameters() if losses)


@pytest.mark.parametrize(("method", "options", "kind"), [(m, o, k) for m, o, k, names in TERMS if names and m != "ofd"])
def test_a_single_image_is_enough(method: str, options: dict[str, Any], kind: Kind) -> None:
    losses = build(method, options, kind)(make_step(kind, images=1))
    assert all(torch.isfinite(value) for value in losses.values())


def test_fgfi_of_the_paper_starts_after_400_iterations() -> None:
    distiller = build("fgfi", {"variant": "paper"}, ONE)
    assert distiller(make_step(iteration=399))["loss_fgfi"] == 0
    assert distiller(make_step(iteration=400))["loss_fgfi"] > 0
    assert build("fgfi", {}, ONE)(make_step(iteration=0))["loss_fgfi"] > 0


@pytest.mark.parametrize(
    ("method", "options"), [("fgfi", {}), ("fgfi", {"variant": "paper"}), ("defeat", {}), ("pad", {"variant": "pdf"}), ("ofd", {})]
)
def test_mean_forms_do_not_grow_with_the_batch(method: str, options: dict[str, Any]) -> None:
    step = make_step(images=2)

    def doubled(maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(torch.cat([m, m]) for m in maps)

    def twice(step: Step) -> Step:
        networks = {
            role: replace(o, neck=doubled(o.neck), captured={kind: doubled(o.of(kind)) for kind in (Backbone, PreReLU)})
            for role, o in (("student", step.student), ("teacher", step.teacher))
        }
        return replace(step, **networks, gt_boxes=step.gt_boxes * 2, gt_labels=step.gt_labels * 2)  # type: ignore[arg-type]

    distiller = build(method, options, ONE)
    once, again = distiller(step), distiller(twice(step))
    for name in once:
        torch.testing.assert_close(again[name], once[name], rtol=1e-4, atol=0)


def test_captures_are_narrowed_to_what_the_options_need() -> None:
    assert build("defeat", {}, ONE).captures == frozenset()
    assert build("defeat", {"backbone_background": 1}, ONE).captures == {Backbone}
    assert build("defeat", {}, TWO).captures == {RoIs}
    assert build("chen2017", {}, TWO).captures == {Assignment, RoIs}
    assert build("chen2017", {"rpn": False}, TWO).captures == {RoIs}
    assert build("chen2017", {"roi": False}, TWO).captures == {Assignment}


def test_chen_shares_the_class_loss_with_the_students_own() -> None:
    assert build("chen2017", {"mu": 0.25}, TWO).own_loss_factors() == {"loss_rpn_cls": 0.25, "loss_cls": 0.25, "s0.loss_cls": 0.25}
    assert build("chen2017", {"rpn": False}, TWO).own_loss_factors() == {"loss_cls": 0.5, "s0.loss_cls": 0.5}


def test_chen_leaves_boxes_alone_that_beat_the_teacher_by_the_margin() -> None:
    target, positive = torch.zeros(3, 4), torch.tensor([1.0, 1.0, 0.0])
    student = torch.tensor([[0.1, 0, 0, 0], [1.0, 0, 0, 0], [5.0, 0, 0, 0]])
    teacher = torch.tensor([[0.5, 0, 0, 0], [0.5, 0, 0, 0], [0.0, 0, 0, 0]])
    assert bounded_regression(teacher, student, target, positive, margin=0.0).item() == pytest.approx(0.5)
    assert bounded_regression(teacher, student, target, positive, margin=0.3).item() == pytest.approx(1.01 / 2)


def test_chen_reads_the_deltas_of_the_ground_truth_class() -> None:
    rois = make_step(TWO).student.of(RoIs)
    assert rois.deltas is not None
    picked = deltas_of(rois, rois.labels)
    for row, label in enumerate(rois.labels.tolist()):
        column = min(label, CLASSES - 1) * 4
        assert torch.equal(picked[row], rois.deltas[row, column : column + 4])
    agnostic = replace(rois, deltas=rois.deltas[:, :4])
    assert torch.equal(deltas_of(agnostic, rois.labels), rois.deltas[:, :4])


def test_soft_objectness_is_the_two_class_cross_entropy() -> None:
    teacher, student, chosen = torch.randn(2, 5), torch.randn(2, 5), torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 0, 1]])
    two = [torch.stack([torch.zeros_like(z), z], dim=2) for z in (teacher, student)]
    entropy = -(two[0].softmax(2) * two[1].log_softmax(2)).sum(2)
    torch.testing.assert_close(soft_objectness(teacher, student, chosen), (entropy * chosen).sum() / 3)


def test_ofd_margins_of_extreme_channels() -> None:
    gamma, beta = torch.tensor([1.0, -1.0, 1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 5.0, -0.5, 0.5])
    expected = torch.tensor([-0.7978846, -0.7978846, -3.0, -0.5, 0.0])  # -sqrt(2/pi); the last two channels are constants
    torch.testing.assert_close(margins(gamma, beta), expected, atol=1e-6, rtol=1e-6)


def test_ofd_leaves_the_student_free_below_the_margin() -> None:
    teacher, margin = torch.full((1, 1, 1, 1), -4.0), torch.tensor([-1.0])
    assert partial_distance(teacher, torch.full((1, 1, 1, 1), -2.0), margin) == 0
    assert partial_distance(teacher, torch.full((1, 1, 1, 1), -0.5), margin) == pytest.approx(0.25)
    assert partial_distance(-teacher, torch.full((1, 1, 1, 1), 1.0), margin) == pytest.approx(9)


def test_ofd_refuses_a_backbone_without_residual_stages() -> None:
    plain = nn.Module()
    plain.backbone = nn.Conv2d(3, 8, 3)
    options = methods()["ofd"].options()
    from workers.distillers.ofd import OFD

    with pytest.raises(TrialFailure, match="ResNet's stages, which a Conv2d does not have"):
        OFD(options, network(ONE, False, plain), network(ONE, True, plain))


def test_pads_loss_and_gradient_stay_finite_where_the_exponential_of_the_log_variance_does_not() -> None:
    teacher, student = torch.zeros(4), torch.full((4,), 3.0, requires_grad=True)
    predicted = torch.tensor([-1.0, 0.0, 80.0, 200.0], requires_grad=True)  # exp(89) is beyond float32
    terms = pdf_terms(teacher, student, predicted)
    terms.sum().backward()
    assert terms.tolist() == pytest.approx([9.0, 9.0, 80.0, 200.0], rel=1e-5)
    assert predicted.grad is not None
    assert predicted.grad.tolist() == pytest.approx([0.0, 0.0, 1.0, 1.0], abs=1e-6)
    assert student.grad is not None
    assert student.grad.tolist() == pytest.approx([6.0, 6.0, 0.0, 0.0], rel=1e-5)


def test_pad_starts_as_plain_imitation_and_takes_a_single_cell() -> None:
    distiller, step = build("pad", {}, ONE), make_step()
    plain = sum(
        float((t - adapt(s)).square().mean().detach())
        for adapt, t, s in zip(distiller.adapters, step.teacher.neck, step.student.neck, strict=True)  # type: ignore[arg-type]
    )
    assert distiller(step)["loss_pad"].item() == pytest.approx(plain, rel=1e-5)
    assert Branch(4)(torch.randn(1, 4, 1, 1)).tolist() == torch.zeros(1, 4, 1, 1).tolist()


ANCHORED = Detector("retinanet", "RetinaNet", "", frozenset({"neck", "dense_logits", "anchors"}))
POINTED = Detector("fcos", "FCOS", "", frozenset({"neck", "dense_logits", "points"}))
TWO_STAGE = Detector(
    "faster_rcnn", "Faster R-CNN", "", frozenset({"neck", "dense_logits", "anchors", "roi_head"}), strides=(4, 8, 16, 32, 64)
)
GRID = Detector("grid_rcnn", "Grid R-CNN", "", frozenset({"neck", "dense_logits", "anchors", "roi_head"}), strides=(4, 8, 16, 32, 64))


@pytest.mark.parametrize(
    ("method", "options", "student", "teacher", "says"),
    [
        ("chen2017", {}, TWO_STAGE, TWO_STAGE, None),
        ("chen2017", {}, ANCHORED, TWO_STAGE, "needs an RPN and a RoI head, which the student's RetinaNet does not have"),
        ("chen2017", {}, TWO_STAGE, GRID, "needs box deltas of the RoI head, which the teacher's Grid R-CNN does not have"),
        ("chen2017", {"nu": 0}, TWO_STAGE, GRID, None),
        ("li2017", {}, TWO_STAGE, ANCHORED, "needs an RPN and a RoI head, which the teacher's RetinaNet does not have"),
        ("fgfi", {}, POINTED, POINTED, "variant 'fpn' needs anchor boxes, which the student's FCOS does not have"),
        ("fgfi", {"variant": "pdf"}, POINTED, POINTED, None),
        ("fgfi", {}, ANCHORED, TWO_STAGE, "must have pyramid levels of the same strides"),
        ("defeat", {}, ANCHORED, ANCHORED, None),
        ("defeat", {"head": True}, ANCHORED, ANCHORED, "head term needs an RPN and a RoI head"),
        ("defeat", {"variant": "pdf", "head": True}, TWO_STAGE, TWO_STAGE, "distils the neck alone"),
        ("ofd", {}, ANCHORED, TWO_STAGE, None),
        ("pad", {}, ANCHORED, POINTED, None),
    ],
)
def test_what_fits_what(method: str, options: dict[str, Any], student: Detector, teacher: Detector, says: str | None) -> None:
    declared = methods()[method]
    sentence = declared.misfit(student, teacher, declared.options.model_validate(options))
    assert sentence is None if says is None else sentence is not None and says in sentence


@pytest.mark.parametrize("method", ["fgfi", "defeat"])
def test_pdf_distils_version_makes_its_own_priors_for_points(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DETECTORS, "fcos", POINTED)
    kind = replace(ONE, detector="fcos")

    def no_anchors() -> list[Tensor]:
        raise AssertionError("a point head has no anchors")

    losses = build(method, {"variant": "pdf"}, kind)(replace(make_step(kind), anchors=no_anchors))
    assert all(value > 0 for value in losses.values())
