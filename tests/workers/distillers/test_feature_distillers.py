"""FRS, FBKD, FGD, MGD, CWD and PKD on a synthetic step: terms and switches, gradients, small maps, batch sizes, inheritance."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studies.catalog import Detector
from studies.methods import methods
from studies.spec import MethodUse
from studies.trial import TrialFailure
from tests.workers.synthetic import ONE, STUDENT, TEACHER, TWO, Kind, make_step, network
from workers.distillation.base import Distiller
from workers.distillation.inherit import inherit_neck_and_head
from workers.distillation.non_local import NonLocal
from workers.distillation.step import NetworkInfo, Outputs, Step
from workers.distillation.student import build_distiller
from workers.distillers.fgd import box_weights
from workers.distillers.mgd import random_mask
from workers.distillers.pkd import pattern_loss

FRS = {"loss_frs_feature", "loss_frs_prediction"}
AT = {"loss_fbkd_at_spatial", "loss_fbkd_at_channel"}
FBKD = AT | {"loss_fbkd_am", "loss_fbkd_nld"}
FGD = {f"loss_fgd_{name}" for name in ("fg", "bg", "attention", "relation")}

# method, options, step, names of the losses
TERMS: list[tuple[str, dict[str, Any], Kind, set[str]]] = [
    ("frs", {}, ONE, FRS),
    ("frs", {}, TWO, FRS),
    ("frs", {"alpha": 0}, ONE, {"loss_frs_prediction"}),
    ("frs", {"beta": 0}, ONE, {"loss_frs_feature"}),
    ("fbkd", {}, ONE, FBKD),
    ("fbkd", {}, TWO, FBKD),
    ("fbkd", {"variant": "paper"}, ONE, FBKD),
    ("fbkd", {"at_weight": 0}, ONE, FBKD - AT),
    ("fbkd", {"at_spatial": False, "nld_weight": 0}, ONE, {"loss_fbkd_at_channel", "loss_fbkd_am"}),
    ("fbkd", {"at_channel": False, "am_weight": 0}, ONE, {"loss_fbkd_at_spatial", "loss_fbkd_nld"}),
    *(("fbkd", {"nl_mode": mode}, ONE, FBKD) for mode in ("embedded_gaussian", "gaussian", "concatenation")),
    ("fgd", {}, ONE, FGD),
    ("fgd", {}, TWO, FGD),
    *(("fgd", {f"{name}_weight": 0}, ONE, FGD - {f"loss_fgd_{name}"}) for name in ("fg", "bg", "attention", "relation")),
    ("mgd", {}, ONE, {"loss_mgd"}),
    ("mgd", {}, TWO, {"loss_mgd"}),
    ("mgd", {"loss_weight": 0}, ONE, set()),
    ("cwd", {}, ONE, {"loss_cwd"}),
    ("cwd", {"divergence": "cross_entropy", "temperature": 4}, TWO, {"loss_cwd"}),
    ("cwd", {"source": "logits"}, ONE, {"loss_cwd"}),
    ("cwd", {"loss_weight": 0}, ONE, set()),
    ("pkd", {}, ONE, {"loss_pkd"}),
    ("pkd", {}, TWO, {"loss_pkd"}),
    ("pkd", {"loss_weight": 0}, ONE, set()),
]
each_term = pytest.mark.parametrize(("method", "options", "kind", "names"), TERMS)
each_loss = pytest.mark.parametrize(("method", "options", "kind"), [term[:3] for term in TERMS if term[3]])


def build(method: str, options: dict[str, Any], student: NetworkInfo, teacher: NetworkInfo) -> Distiller:
    torch.manual_seed(1)
    return build_distiller(MethodUse(id=method, options=options), student, teacher)


def distiller(method: str, options: dict[str, Any], kind: Kind) -> Distiller:
    return build(method, options, network(kind, teacher=False), network(kind, teacher=True))


def twice(outputs: Outputs) -> Outputs:
    """The same images a second time in the batch."""
    neck, logits = (tuple(m.repeat(2, 1, 1, 1) for m in maps) for maps in (outputs.neck, outputs.logits))
    return replace(outputs, neck=neck, logits=logits)


def single_cells(channels: int, grad: bool) -> Outputs:
    """One image whose every level is a single cell."""
    return Outputs(
        neck=tuple(torch.randn(1, channels, 1, 1, requires_grad=grad) for _ in ONE.strides),
        logits=tuple(torch.randn(1, 6, 1, 1, requires_grad=grad) for _ in ONE.strides),
    )


def assert_trains(built: Distiller, step: Step) -> None:
    """Finite losses whose gradient reaches the student's features and every trainable parameter of the distiller."""
    losses = built(step)
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    student = [*step.student.neck, *step.student.logits]
    assert any(m.grad is not None for m in student)
    assert all(torch.isfinite(m.grad).all() for m in student if m.grad is not None)
    for name, parameter in built.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


@each_term
def test_terms(method: str, options: dict[str, Any], kind: Kind, names: set[str]) -> None:
    losses = distiller(method, options, kind)(make_step(kind))
    assert set(losses) == names
    assert all(loss.dim() == 0 and loss > 0 for loss in losses.values())


@each_loss
@pytest.mark.parametrize("objects", [True, False])
def test_gradients_are_finite_and_reach_student_and_adapters(method: str, options: dict[str, Any], kind: Kind, objects: bool) -> None:
    assert_trains(distiller(method, options, kind), make_step(kind, objects=objects))


@each_loss
def test_single_cells_are_finite(method: str, options: dict[str, Any], kind: Kind) -> None:
    step = replace(make_step(kind), student=single_cells(STUDENT, True), teacher=single_cells(TEACHER, False))
    assert_trains(distiller(method, options, kind), replace(step, gt_boxes=step.gt_boxes[:1]))


@each_loss
def test_equal_features_have_finite_gradients(method: str, options: dict[str, Any], kind: Kind) -> None:
    """A student that has become its teacher: norms and roots at zero, where a naive gradient is NaN."""
    info = network(kind, teacher=True)
    step = make_step(kind)
    neck = tuple(f.clone().requires_grad_() for f in step.teacher.neck)
    logits = tuple(z.clone().requires_grad_() for z in step.teacher.logits)
    assert_trains(build(method, options, info, info), replace(step, student=replace(step.student, neck=neck, logits=logits)))


@pytest.mark.parametrize(
    ("method", "options", "growth"),
    [
        ("frs", {}, 1.0),
        ("fbkd", {}, math.sqrt(2)),
        ("fbkd", {"variant": "paper"}, math.sqrt(2)),
        ("fgd", {}, 1.0),
        ("mgd", {"masked": 0}, 1.0),
        ("cwd", {}, 1.0),
        ("pkd", {}, 1.0),
    ],
)
def test_growth_with_the_batch(method: str, options: dict[str, Any], growth: float) -> None:
    """How a loss on one device grows: twice the images, the same or sqrt(2) times the loss."""
    built, step = distiller(method, options, ONE), make_step()
    doubled = replace(step, student=twice(step.student), teacher=twice(step.teacher), gt_boxes=step.gt_boxes * 2)
    once, both = built(step), built(doubled)
    for name, loss in once.items():
        ratio = (both[name] / loss).item()
        # PKD's deviations are unbiased: its loss has a factor (n - 1) / n, which goes from 7/8 to 15/16 at the smallest level.
        assert ratio == pytest.approx(growth, rel=0.05 if method == "pkd" else 1e-4), name


@pytest.mark.parametrize("method", ["frs", "fbkd", "fgd", "cwd", "pkd"])
def test_bfloat16_features_give_the_loss(method: str) -> None:
    built, step = distiller(method, {}, ONE), make_step()

    def rounded(outputs: Outputs) -> Outputs:
        neck, logits = (tuple(m.detach().bfloat16().float() for m in maps) for maps in (outputs.neck, outputs.logits))
        return replace(outputs, neck=neck, logits=logits)

    exact, coarse = built(step), built(replace(step, student=rounded(step.student), teacher=rounded(step.teacher)))
    for name, loss in exact.items():
        assert coarse[name].item() == pytest.approx(loss.item(), rel=0.02)


# --- defaults


@pytest.mark.parametrize(
    ("method", "kind", "detector", "explicit"),
    [
        ("frs", ONE, "retinanet", {"alpha": 0.005, "beta": 0.02}),
        ("frs", ONE, "gfl", {"alpha": 0.1, "beta": 0.05}),
        ("frs", ONE, "fcos", {"alpha": 0.01, "beta": 0.05}),
        ("frs", TWO, "faster_rcnn", {"alpha": 0.002, "beta": 0.1}),
        (
            "fbkd",
            ONE,
            "retinanet",
            {"at_weight": 2.4e-2, "am_weight": 4.2e-4, "nld_weight": 4.2e-4, "temperature": 0.1, "mask_channel": True},
        ),
        (
            "fbkd",
            TWO,
            "faster_rcnn",
            {"at_weight": 4e-3, "am_weight": 7e-5, "nld_weight": 7e-5, "temperature": 0.5, "mask_channel": False},
        ),
        ("fgd", ONE, "gfl", {"fg_weight": 1e-3, "bg_weight": 5e-4, "attention_weight": 5e-4, "relation_weight": 5e-6, "temperature": 0.5}),
        (
            "fgd",
            ONE,
            "fcos",
            {"fg_weight": 1.6e-3, "bg_weight": 8e-4, "attention_weight": 8e-4, "relation_weight": 8e-6, "temperature": 0.8},
        ),
        (
            "fgd",
            TWO,
            "faster_rcnn",
            {"fg_weight": 5e-5, "bg_weight": 2.5e-5, "attention_weight": 5e-5, "relation_weight": 5e-7, "temperature": 0.5},
        ),
        ("mgd", ONE, "gfl", {"loss_weight": 2e-5, "masked": 0.65}),
        ("mgd", TWO, "faster_rcnn", {"loss_weight": 5e-7, "masked": 0.45}),
        ("pkd", ONE, "gfl", {"loss_weight": 10}),
        ("pkd", TWO, "faster_rcnn", {"loss_weight": 6}),
    ],
)
def test_defaults_by_detector(method: str, kind: Kind, detector: str, explicit: dict[str, Any]) -> None:
    kind, step = replace(kind, detector=detector), make_step(kind)
    results = []
    for options in ({}, explicit):
        built = distiller(method, options, kind)
        torch.manual_seed(2)  # MGD draws a mask
        results.append({name: loss.item() for name, loss in built(step).items()})
    assert results[0] == results[1]


def test_fbkd_mask_switches_change_only_am() -> None:
    step = make_step()
    values = []
    for spatial in (True, False):
        for channel in (True, False):
            losses = distiller("fbkd", {"mask_spatial": spatial, "mask_channel": channel}, ONE)(step)
            values.append({name: loss.item() for name, loss in losses.items()})
    assert len({v["loss_fbkd_am"] for v in values}) == 4
    assert all(len({v[name] for v in values}) == 1 for name in FBKD - {"loss_fbkd_am"})


def test_two_stage_students_imitate_four_levels() -> None:
    """Of five levels FGD and MGD leave the extra one of two-stage pyramids out; PKD takes four of any."""
    for method, stages, expected in (("fgd", "one", 5), ("fgd", "two", 4), ("mgd", "one", 5), ("mgd", "two", 4), ("pkd", "one", 4)):
        info = replace(network(ONE, teacher=True), stages=stages, neck_channels=(8,) * 5, strides=(8, 16, 32, 64, 128))
        built: Any = build(method, {}, info, info)
        assert len(built.adapters if method == "pkd" else built.levels) == expected


def test_frs_ramp_is_an_option() -> None:
    assert distiller("frs", {}, ONE).ramp_iterations == 500
    assert distiller("frs", {"ramp_iterations": 0}, ONE).ramp_iterations == 0


# --- parts


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("mode", ["dot_product", "embedded_gaussian", "gaussian", "concatenation"])
def test_non_local_modes_equal_their_formula(mode: str, pool: int) -> None:
    """Against the weights S written out cell by cell: (N, cells, keys)."""
    torch.manual_seed(0)
    block = NonLocal(6, 4, pool, mode, residual=False).double()
    x = torch.randn(2, 6, 4, 6, dtype=torch.float64)

    def keys(m: Tensor) -> Tensor:
        return F.max_pool2d(m, pool).flatten(2)

    parts = block.project(x).chunk(1 if mode == "gaussian" else 3, dim=1)
    values = keys(parts[-1])
    if mode == "gaussian":
        weights = torch.einsum("ncq,nck->nqk", x.flatten(2), keys(x)).softmax(2)
    else:
        theta, phi = parts[0].flatten(2), keys(parts[1])
        product = torch.einsum("ncq,nck->nqk", theta, phi)
        if mode == "dot_product":
            weights = product / phi.shape[2]
        elif mode == "embedded_gaussian":
            weights = (product / math.sqrt(4)).softmax(2)
        else:
            assert block.pair is not None
            cells, count = theta.shape[2], phi.shape[2]
            pairs = torch.cat([theta[..., None].expand(-1, -1, -1, count), phi[:, :, None].expand(-1, -1, cells, -1)], dim=1)
            weights = torch.einsum("c,ncqk->nqk", block.pair.weight[0], pairs).relu() / count
    expected = block.out(torch.einsum("nqk,nck->ncq", weights, values).unflatten(2, (4, 6)))
    torch.testing.assert_close(block(x), expected)


def test_non_local_block_starts_as_the_identity() -> None:
    x = torch.randn(2, 6, 4, 6)
    assert torch.equal(NonLocal(6, 4, 2)(x), x)


@pytest.mark.parametrize(("variant", "trained"), [("code", True), ("paper", False)])
def test_teacher_side_block_trains_only_as_released(variant: str, trained: bool) -> None:
    built: Any = distiller("fbkd", {"variant": variant}, ONE)
    assert all(p.requires_grad == trained for level in built.levels for p in level.teacher_relation.parameters())


def test_box_weights_by_hand() -> None:
    """A 40 x 20 pixel input on a 4 x 2 map: ten pixels a cell. A box's last cell is its ceiling, both ends included."""
    boxes = [torch.tensor([[0.0, 0.0, 9.0, 10.0], [10.0, 0.0, 20.0, 20.0]]), torch.zeros(0, 4)]
    foreground, background = box_weights(boxes, (20, 40), torch.zeros(2, 1, 2, 4))
    # First box: columns 0..1, rows 0..1: 1/4. Second: columns 1..2, rows 0..2 (one below the map): 1/6, less than 1/4 in column 1.
    torch.testing.assert_close(foreground[0], torch.tensor([[1 / 4, 1 / 4, 1 / 6, 0.0]] * 2))
    torch.testing.assert_close(background[0], torch.tensor([[0.0, 0.0, 0.0, 1 / 2]] * 2))
    assert foreground[1].sum() == 0
    torch.testing.assert_close(background[1], torch.full((2, 4), 1 / 8))


def test_mgd_masks_its_fraction_of_cells_anew() -> None:
    torch.manual_seed(0)
    features = torch.zeros(2, 3, 100, 100)
    masks = [random_mask(features, 0.65) for _ in range(2)]
    assert masks[0].shape == (2, 1, 100, 100)
    assert set(masks[0].unique().tolist()) == {0.0, 1.0}
    assert masks[0].mean().item() == pytest.approx(0.35, abs=0.02)  # four standard deviations
    assert not torch.equal(*masks)


def test_pkd_ignores_scale_and_offset_of_channels() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 5, 7), torch.randn(2, 6, 5, 7)
    scaled = teacher * torch.rand(6, 1, 1).add(0.5) + torch.randn(6, 1, 1)
    torch.testing.assert_close(pattern_loss(student, scaled), pattern_loss(student, teacher))
    assert pattern_loss(scaled, teacher) < 1e-10


def test_pkd_resizes_the_student() -> None:
    student, teacher = torch.randn(2, 6, 4, 4), torch.randn(2, 6, 8, 8)
    resized = F.interpolate(student, (8, 8), mode="bilinear", align_corners=False)
    assert torch.equal(pattern_loss(student, teacher), pattern_loss(resized, teacher))


# --- inheritance


class Network(nn.Module):
    """The parts of a detector that inheritance looks at."""

    def __init__(self, backbone: int, neck: int) -> None:
        super().__init__()
        self.backbone, self.neck, self.bbox_head = nn.Conv2d(3, backbone, 1), nn.Conv2d(neck, 4, 1), nn.BatchNorm2d(4)


def test_inheritance_copies_all_but_the_backbone() -> None:
    student, teacher = Network(8, 8), Network(16, 8)
    teacher.bbox_head.running_mean += 1
    backbone = student.backbone.weight.clone()
    assert inherit_neck_and_head(student, teacher, required=True)
    assert torch.equal(student.neck.weight, teacher.neck.weight)
    assert torch.equal(student.bbox_head.running_mean, teacher.bbox_head.running_mean)
    assert torch.equal(student.backbone.weight, backbone)


def test_inheritance_is_whole_or_not_at_all() -> None:
    student, teacher = Network(8, 8), Network(16, 16)
    teacher.bbox_head.running_mean += 1
    assert not inherit_neck_and_head(student, teacher, required=False)
    assert student.bbox_head.running_mean.sum() == 0
    with pytest.raises(TrialFailure) as failure:
        inherit_neck_and_head(student, teacher, required=True)
    assert failure.value.kind == "user"
    assert "1 tensors are not the same in both, 'neck.weight' first" in failure.value.sentence


@pytest.mark.parametrize(
    ("method", "kind", "teacher_detector", "option", "inherits"),
    [
        ("fgd", ONE, "retinanet", None, True),
        ("fgd", TWO, "faster_rcnn", None, True),
        ("fgd", TWO, "cascade_mask_rcnn", None, False),
        ("fgd", ONE, "retinanet", False, False),
        ("mgd", ONE, "retinanet", None, True),
        ("mgd", TWO, "faster_rcnn", None, False),
        ("mgd", TWO, "faster_rcnn", True, True),
    ],
)
def test_who_inherits(method: str, kind: Kind, teacher_detector: str, option: bool | None, inherits: bool) -> None:
    teacher_info = replace(network(kind, teacher=True), detector=teacher_detector)
    built = build(method, {"inherit": option}, network(kind, teacher=False), teacher_info)
    student, teacher = Network(8, 8), Network(16, 8)
    built.inherit(student, teacher)
    assert torch.equal(student.neck.weight, teacher.neck.weight) == inherits


# --- what fits what

DENSE = Detector("retinanet", "RetinaNet", "", frozenset({"neck", "dense_logits", "anchors"}))
POINTS = Detector("fcos", "FCOS", "", frozenset({"neck", "dense_logits", "points"}))
REPPOINTS = Detector("reppoints", "RepPoints", "", frozenset({"neck", "dense_logits", "points"}))
OTHER = Detector("yolo", "YOLO", "", frozenset({"neck", "dense_logits", "anchors"}))
TWO_STAGE = Detector(
    "faster_rcnn", "Faster R-CNN", "", frozenset({"neck", "dense_logits", "anchors", "roi_head"}), strides=(4, 8, 16, 32, 64)
)


@pytest.mark.parametrize(
    ("method", "options", "student", "teacher", "why"),
    [
        ("fbkd", {}, DENSE, POINTS, None),
        ("fgd", {}, TWO_STAGE, TWO_STAGE, None),
        ("fgd", {}, DENSE, TWO_STAGE, "Faster R-CNN has 4, 8, 16, 32, 64 and RetinaNet has 8, 16, 32, 64, 128"),
        ("pkd", {}, DENSE, TWO_STAGE, None),
        ("pkd", {}, DENSE, POINTS, None),
        ("frs", {}, DENSE, POINTS, "these are FCOS and RetinaNet"),
        ("frs", {}, TWO_STAGE, TWO_STAGE, None),
        (
            "frs",
            {},
            REPPOINTS,
            REPPOINTS,
            "published weights for RepPoints: state options.alpha and options.beta (published alpha and beta: ",
        ),
        ("frs", {"alpha": 0.01}, REPPOINTS, REPPOINTS, "state options.beta (published alpha and beta: RetinaNet 0.005 and 0.02, GFL"),
        ("frs", {"alpha": 0.01, "beta": 0.05}, REPPOINTS, REPPOINTS, None),
        ("cwd", {}, DENSE, POINTS, None),
        ("cwd", {"source": "logits"}, DENSE, POINTS, "use `source: neck`"),
        ("cwd", {"source": "logits"}, DENSE, DENSE, None),
        ("crosskd", {}, DENSE, DENSE, None),
        ("crosskd", {}, DENSE, POINTS, "these are FCOS and RetinaNet"),
        ("crosskd", {}, OTHER, OTHER, "written for atss, fcos, gfl, retinanet"),
        ("crosskd", {}, TWO_STAGE, TWO_STAGE, "written for atss, fcos, gfl, retinanet"),
        ("crosskd", {"centerness_weight": 1}, DENSE, DENSE, "for ATSS alone"),
    ],
)
def test_what_fits(method: str, options: dict[str, Any], student: Detector, teacher: Detector, why: str | None) -> None:
    declared = methods()[method]
    sentence = declared.misfit(student, teacher, declared.options.model_validate(options))
    assert sentence is None if why is None else why in (sentence or "")
