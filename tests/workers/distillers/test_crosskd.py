"""CrossKD on narrow mmdet heads, with the features that the recorder takes from them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from mmdet.models.losses.iou_loss import giou_loss, iou_loss
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from studies.spec import MethodUse, Network
from studies.trial import TrialFailure
from workers.detectors import build, describe, zoo_config
from workers.distillation.captures import Assignment, Recorder
from workers.distillation.step import NetworkInfo, Outputs, Step, Targets
from workers.distillation.student import DistilledDetector, build_distiller
from workers.distillers.crosskd import CrossKD, Tower, box_distance, tower_index
from workers.geometry.levels import on_map

register_all_modules(init_default_scope=False)

CLASSES, CHANNELS, STRIDES, IMAGE = 3, 8, (8, 16, 32, 64, 128), 64
ZOO = {
    "gfl": "gfl/gfl_r50_fpn_1x_coco.py",
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "atss": "atss/atss_r50_fpn_1x_coco.py",
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
}
each_detector = pytest.mark.parametrize("detector", ZOO)


class Net(nn.Module):
    """A neck that gives its input back, and the zoo's head, narrow."""

    def __init__(self, detector: str, channels: int = CHANNELS, convs: int = 4) -> None:
        super().__init__()
        config = zoo_config(ZOO[detector]).model
        head = config.bbox_head
        head.update(num_classes=CLASSES, in_channels=CHANNELS, feat_channels=channels, stacked_convs=convs)
        if detector != "retinanet":
            head.norm_cfg = {"type": "GN", "num_groups": 2, "requires_grad": True}
        head.update(train_cfg=config.get("train_cfg", ConfigDict()), test_cfg=config.get("test_cfg", ConfigDict()))
        self.neck, self.bbox_head = nn.Identity(), MODELS.build(head)
        for parameter in self.bbox_head.parameters():  # unlike the start, where all predictions are alike
            nn.init.normal_(parameter, std=0.15)

    def info(self, detector: str) -> NetworkInfo:
        head = self.bbox_head
        anchors = getattr(head.prior_generator, "num_base_priors", [1])[0]
        bins = head.reg_max + 1 if detector == "gfl" else None
        return NetworkInfo(detector, "resnet18", "one", (CHANNELS,) * 5, (), STRIDES, CLASSES, anchors, bins, self)


def run(net: Net, levels: tuple[Tensor, ...]) -> Outputs:
    recorder = Recorder(net, frozenset({Tower}))
    net.bbox_head(net.neck(levels))
    return recorder.take()


def features(seed: int, grad: bool) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(2, CHANNELS, max(1, IMAGE // s), max(1, IMAGE // s), generator=generator).requires_grad_(grad) for s in STRIDES
    )


def make_step(detector: str, student: Net, teacher: Net, same_features: bool = False, objects: bool = True) -> Step:
    """Both networks run on features of two images; with objects the first image has positives on the first level."""
    teacher.eval().requires_grad_(False)
    ours = features(0, grad=True)
    theirs = tuple(f.detach() for f in ours) if same_features else features(1, grad=False)
    outputs, anchors = run(student, ours), student.info(detector).anchors_per_cell
    labels = [torch.full((2, f.shape[2] * f.shape[3] * anchors), CLASSES) for f in ours]
    labels[0][0, :5] = 1 if objects else CLASSES
    weights = [torch.ones(label.shape) for label in labels]
    weights[0][:, -3:] = 0
    sides = [torch.full((*label.shape, 4), 2.0) for label in labels]
    sizes = [f.shape[-2:] for f in ours]
    outputs.captured[Assignment] = Targets(tuple(labels), tuple(weights), tuple(sides))
    return Step(
        student=outputs,
        teacher=run(teacher, theirs),
        gt_boxes=[],
        gt_labels=[],
        image_shape=(IMAGE, IMAGE),
        iteration=0,
        anchors=lambda: student.bbox_head.prior_generator.grid_priors(sizes, device="cpu"),
    )


def networks(detector: str) -> tuple[Net, Net]:
    torch.manual_seed(0)
    return Net(detector), Net(detector)


def crosskd(detector: str, student: Net, teacher: Net, **options: Any) -> CrossKD:
    made = build_distiller(MethodUse(id="crosskd", options=options), student.info(detector), teacher.info(detector))
    assert isinstance(made, CrossKD)
    return made


@each_detector
def test_losses_and_gradients(detector: str) -> None:
    student, teacher = networks(detector)
    step = make_step(detector, student, teacher)
    built = crosskd(detector, student, teacher)
    losses = built(step)
    assert set(losses) == {"loss_crosskd_cls", "loss_crosskd_reg"} | ({"loss_crosskd_centerness"} if detector == "atss" else set())
    torch.stack(list(losses.values())).sum().backward()
    head, last = student.bbox_head, tower_index(student.bbox_head)
    for tower in (head.cls_convs, head.reg_convs):
        for index, conv in enumerate(tower):
            reached = conv.conv.weight.grad is not None and bool(conv.conv.weight.grad.abs().sum() > 0)
            assert reached == (index <= last)  # what follows is the teacher's
            assert not reached or torch.isfinite(conv.conv.weight.grad).all()
    assert all(p.grad is None for p in teacher.parameters())
    assert not list(built.parameters())
    assert not built.state_dict()


@each_detector
def test_the_teacher_itself_has_nothing_to_learn(detector: str) -> None:
    """Its own features pass its head as they are, so that the crossed predictions are its predictions."""
    student, teacher = networks(detector)
    student.load_state_dict(teacher.state_dict())
    student.eval()
    losses = crosskd(detector, student, teacher, centerness_weight=0)(make_step(detector, student, teacher, same_features=True))
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(0, abs=1e-3), name


@each_detector
def test_weights_of_zero_leave_terms_out(detector: str) -> None:
    student, teacher = networks(detector)
    step = make_step(detector, student, teacher)
    assert set(crosskd(detector, student, teacher, reg_weight=0, centerness_weight=0)(step)) == {"loss_crosskd_cls"}
    assert set(crosskd(detector, student, teacher, cls_weight=0, centerness_weight=0)(step)) == {"loss_crosskd_reg"}
    assert crosskd(detector, student, teacher, cls_weight=0, reg_weight=0, centerness_weight=0)(step) == {}


@pytest.mark.parametrize(
    ("detector", "weights"), [("gfl", (1, 4, 0)), ("retinanet", (1, 1, 0)), ("atss", (1, 1, 1)), ("fcos", (0.4, 0.75, 0))]
)
def test_default_weights(detector: str, weights: tuple[float, ...]) -> None:
    student, teacher = networks(detector)
    assert tuple(crosskd(detector, student, teacher).weights.values()) == weights


@each_detector
def test_images_without_objects(detector: str) -> None:
    student, teacher = networks(detector)
    losses = crosskd(detector, student, teacher)(make_step(detector, student, teacher, objects=False))
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)
    if "loss_crosskd_centerness" in losses:
        assert losses["loss_crosskd_centerness"] == 0


@pytest.mark.parametrize(
    ("detector", "objects", "expected"),
    # Five positives in one image, and one counted for the image without; centerness of equal sides is 1.
    [("gfl", True, 6.0), ("retinanet", True, 6.0), ("gfl", False, 2.0), ("fcos", True, 5.0), ("fcos", False, 0.0)],
)
def test_number_of_positives(detector: str, objects: bool, expected: float) -> None:
    student, teacher = networks(detector)
    step = make_step(detector, student, teacher, objects=objects)
    assert crosskd(detector, student, teacher).positives(step).item() == expected


def test_ignored_anchors_have_no_part() -> None:
    student, teacher = networks("retinanet")
    step = make_step("retinanet", student, teacher)
    targets = step.student.of(Assignment)
    step.student.captured[Assignment] = replace(targets, label_weights=tuple(torch.zeros_like(w) for w in targets.label_weights))
    losses = crosskd("retinanet", student, teacher)(step)
    assert all(loss == 0 for loss in losses.values())


@pytest.mark.parametrize(
    ("detector", "convs", "index"), [("gfl", 4, 2), ("retinanet", 4, 2), ("fcos", 4, 1), ("gfl", 2, 1), ("fcos", 1, 0)]
)
def test_where_the_tower_is_left(detector: str, convs: int, index: int) -> None:
    assert tower_index(Net(detector, convs=convs).bbox_head) == index


@each_detector
def test_recorded_tower_is_before_the_activation(detector: str) -> None:
    """mmdet's ReLU works in place; the recorded features keep their negative values."""
    student, teacher = networks(detector)
    step = make_step(detector, student, teacher)
    for outputs in (step.student, step.teacher):
        assert all((level < 0).any() for branch in ("cls", "reg") for level in outputs.of(Tower)[branch])


@pytest.mark.parametrize("detector", ["gfl", "retinanet"])
def test_bfloat16_gives_the_loss(detector: str) -> None:
    """Fresh heads predict almost the same everywhere: a teacher's logit in bfloat16 would be off by more than they differ."""
    torch.manual_seed(0)
    ours, theirs = (Network(detector=detector, backbone="resnet18", width=width) for width in (8, 16))
    student, teacher = build(ours, CLASSES), build(theirs, CLASSES)
    model = DistilledDetector(student, teacher, [MethodUse(id="crosskd")], (describe(ours, student), describe(theirs, teacher)))
    sample = DetDataSample(metainfo={"img_shape": (IMAGE, IMAGE), "pad_shape": (IMAGE, IMAGE), "batch_input_shape": (IMAGE, IMAGE)})
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[8.0, 8.0, 40.0, 48.0]]), labels=torch.tensor([1]))
    images = torch.randn(1, 3, IMAGE, IMAGE)
    exact = model(images, [sample], mode="loss")
    with torch.autocast("cpu", torch.bfloat16):
        coarse = model(images, [sample], mode="loss")
    for name in ("loss_crosskd_cls", "loss_crosskd_reg"):
        assert coarse[name].item() == pytest.approx(exact[name].item(), rel=0.02), name


def test_heads_of_other_width_are_refused() -> None:
    with pytest.raises(TrialFailure) as failure:
        crosskd("gfl", Net("gfl", channels=4), Net("gfl", channels=8))
    assert failure.value.kind == "user"
    assert failure.value.sentence == "CrossKD needs heads of one width; the student's has 4 channels and the teacher's 8"


@pytest.mark.parametrize(("kind", "reference"), [("giou", giou_loss), ("log_iou", iou_loss)])
def test_box_distances_are_those_of_mmdet(kind: str, reference: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(2, 200, 2, generator=generator) * 20
    boxes = torch.cat([low, low + torch.rand(2, 200, 2, generator=generator) * 20], dim=2)
    expected = reference(boxes[0], boxes[1], reduction="none", eps=1e-6)
    torch.testing.assert_close(box_distance(boxes[0], boxes[1], kind), expected)


def test_anchor_order_on_the_map() -> None:
    """Rows run over cells, anchors of a cell next to each other."""
    rows = torch.arange(2 * 3 * 2).view(1, -1).float()  # 2 x 3 cells, 2 anchors
    maps = on_map(rows, torch.zeros(1, 1, 2, 3))
    assert maps.shape == (1, 2, 2, 3)
    assert maps[0, 1, 1, 2] == 11
    assert maps[0, 0, 0, 1] == 2
