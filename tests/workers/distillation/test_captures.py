"""RoI outputs recorded from narrow mmdet two-stage detectors: what the loss saw, and the teacher on the same proposals."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from studies.spec import MethodUse, Network
from workers.detectors import describe, zoo_config
from workers.distillation.captures import RoIs, first_stage, on_same_rois
from workers.distillation.step import RoIOutputs
from workers.distillation.student import DistilledDetector

CLASSES, CHANNELS, SIDE = 3, 32, 128
ZOO = {
    "faster": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "cascade": "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
    "dynamic": "dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py",
    "grid": "grid_rcnn/grid-rcnn_r50_fpn_gn-head_2x_coco.py",
}


def detector(name: str, seed: int = 0) -> Any:
    """A two-stage detector of the zoo with a narrow ResNet-18, 32 channels and three classes."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    config = zoo_config(ZOO[name]).model
    config.backbone.update(depth=18, base_channels=8, stem_channels=8, frozen_stages=-1, norm_eval=False, init_cfg=None)
    config.neck.update(in_channels=[8, 16, 32, 64], out_channels=CHANNELS)
    config.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    config.roi_head.bbox_roi_extractor.out_channels = CHANNELS
    heads = config.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(in_channels=CHANNELS, fc_out_channels=CHANNELS, num_classes=CLASSES)
    if name == "grid":
        config.roi_head.grid_roi_extractor.out_channels = CHANNELS
        config.roi_head.grid_head.update(in_channels=CHANNELS, point_feat_channels=8, num_convs=1)
        config.roi_head.grid_head.norm_cfg.num_groups = 9
    torch.manual_seed(seed)
    return MODELS.build(config)


def batch(objects: bool = True) -> tuple[Tensor, list[Any]]:
    """Two random images, with two boxes each or none."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    torch.manual_seed(3)
    boxes = torch.tensor([[10.0, 12.0, 60.0, 70.0], [50.0, 40.0, 120.0, 110.0]]) if objects else torch.zeros(0, 4)
    meta = {"img_shape": (SIDE, SIDE), "pad_shape": (SIDE, SIDE), "ori_shape": (SIDE, SIDE), "scale_factor": (1.0, 1.0)}
    samples = []
    for _ in range(2):
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, 2])[: len(boxes)])
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return torch.randn(2, 3, SIDE, SIDE), samples


def recorded(model: Any, objects: bool = True) -> tuple[dict[str, Any], RoIOutputs]:
    """Losses and RoI outputs of one training step."""
    images, samples = batch(objects)
    model.train()
    capture = RoIs()
    capture.attach(model)
    losses = model.loss(images, samples)
    return losses, capture.take()


@pytest.mark.parametrize("name", list(ZOO))
def test_the_student_is_recorded_as_its_loss_saw_it(name: str) -> None:
    model = detector(name)
    losses, rois = recorded(model)
    count = len(rois.rois)
    assert count > 0
    assert rois.rois.shape == (count, 5)
    assert rois.features.shape == (count, CHANNELS, 7, 7)
    assert rois.logits.shape == (count, CLASSES + 1)
    assert rois.labels.max() == CLASSES  # background
    positive = rois.labels < CLASSES
    assert positive.any()  # ground-truth boxes are proposals too
    assert torch.equal(rois.bbox_weights[:, 0], positive.float())
    own = losses["s0.loss_cls" if name == "cascade" else "loss_cls"]
    torch.testing.assert_close(nn.functional.cross_entropy(rois.logits, rois.labels), own)
    if name == "grid":
        assert rois.deltas is None
    else:
        assert rois.deltas is not None
        assert rois.deltas.shape == (count, 4 if name == "cascade" else 4 * CLASSES)


def test_recording_changes_no_loss_and_leaves_nothing_behind() -> None:
    model = detector("faster").train()
    (images, samples), (_, again) = batch(), batch()
    torch.manual_seed(5)  # of the samplers
    plain = model.loss(images, again)
    capture = RoIs()
    capture.attach(model)
    torch.manual_seed(5)
    watched = model.loss(images, samples)
    for name in ("loss_cls", "loss_bbox", "loss_rpn_cls"):
        torch.testing.assert_close(watched[name], plain[name], rtol=0, atol=0)
    capture.take()
    assert capture.pooled is None
    with pytest.raises(AssertionError, match="has not run"):
        capture.take()


def test_gradients_of_what_was_recorded_reach_the_student() -> None:
    model = detector("faster")
    _, rois = recorded(model)
    (rois.logits.sum() + rois.features.sum()).backward()  # type: ignore[no-untyped-call]
    assert model.roi_head.bbox_head.fc_cls.weight.grad is not None
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


def test_the_same_network_as_teacher_gives_the_same_outputs() -> None:
    model = detector("faster")
    _, student = recorded(model)
    images, _ = batch()
    teacher = on_same_rois(model, model.extract_feat(images), student)  # train mode: the batch statistics of the step itself
    torch.testing.assert_close(teacher.logits, student.logits)
    torch.testing.assert_close(teacher.deltas, student.deltas)
    torch.testing.assert_close(teacher.features, student.features)
    assert not teacher.logits.requires_grad


def test_a_cascade_teaches_with_its_first_stage() -> None:
    _, student = recorded(detector("faster"))
    teacher = detector("cascade", seed=1).eval()
    with torch.no_grad():
        outputs = on_same_rois(teacher, teacher.extract_feat(batch()[0]), student)
    assert outputs.logits.shape == student.logits.shape
    assert outputs.deltas is not None
    assert outputs.deltas.shape == (len(student.rois), 4)
    assert first_stage(teacher)[1] is teacher.roi_head.bbox_head[0]
    assert outputs.labels is student.labels


def test_images_without_objects_have_background_proposals_only() -> None:
    _, rois = recorded(detector("faster"), objects=False)
    assert len(rois.rois) > 0
    assert (rois.labels == CLASSES).all()
    assert rois.bbox_weights.sum() == 0


def pair(teacher: str, uses: list[MethodUse]) -> DistilledDetector:
    """A Faster R-CNN student with another two-stage detector as teacher."""
    networks = (detector("faster"), detector(teacher, seed=1))
    infos = [replace(describe(Network(detector="retinanet", backbone="resnet18"), m), detector="faster_rcnn") for m in networks]
    return DistilledDetector(*networks, uses, (infos[0], infos[1])).train()


@pytest.mark.parametrize("method", ["chen2017", "li2017", "defeat"])
@pytest.mark.parametrize("teacher", ["faster", "cascade"])
def test_two_stage_methods_train_the_student_and_not_the_teacher(method: str, teacher: str) -> None:
    model = pair(teacher, [MethodUse(id=method)])
    losses = model(*batch(), mode="loss")
    own = [value for name, value in losses.items() if name.startswith(("loss_chen", "loss_li", "loss_defeat"))]
    assert own
    torch.stack(own).sum().backward()  # type: ignore[no-untyped-call]
    head = model.student.roi_head.bbox_head
    assert head.fc_cls.weight.grad is not None or method == "li2017"  # the mimic stops at the pooled features
    assert model.student.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(p.grad is not None for p in model.distillers.parameters())
    assert all(p.grad is None for p in model.teacher.parameters())


def test_chen_halves_the_students_own_class_losses() -> None:
    plain = pair("faster", [MethodUse(id="li2017")])
    shared = pair("faster", [MethodUse(id="chen2017")])
    shared.student.load_state_dict(plain.student.state_dict())
    results = []
    for model in (plain, shared):
        inputs = batch()
        torch.manual_seed(5)  # of the samplers
        results.append(model(*inputs, mode="loss"))
    torch.testing.assert_close(results[1]["loss_cls"], results[0]["loss_cls"] / 2)
    torch.testing.assert_close(sum(results[1]["loss_rpn_cls"]), sum(results[0]["loss_rpn_cls"]) / 2)
    torch.testing.assert_close(results[1]["loss_bbox"], results[0]["loss_bbox"])
