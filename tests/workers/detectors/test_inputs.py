"""What networks are given: a teacher sees its student's images as it sees them alone."""

import functools
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS

from studies.spec import Network
from studies.trial import TrialFailure
from tests.workers.synthetic import batch
from workers.detectors import build, describe, model_config
from workers.detectors.configs import register, scope
from workers.detectors.inputs import PairedPreprocessor, input_of, preprocessor_of, same_batches
from workers.detectors.mixup import mix_until
from workers.distillation.student import DistilledDetector
from workers.evaluation.differences import prediction_difference
from workers.measuring.d_pred import logits

# Every (student, teacher) of the papers' tables, as detector, backbone and form.
PAIRS = """
atss resnet50 distribution < atss resnet101 distribution
cascade_mask_rcnn resnet101 < cascade_mask_rcnn resnext101_32x4d_dcn
cascade_mask_rcnn resnet50 < cascade_mask_rcnn resnext101_32x4d_dcn
cascade_rcnn resnet101 < cascade_mask_rcnn resnext101_32x4d_dcn
cascade_rcnn resnet50 < cascade_mask_rcnn resnet101
cascade_rcnn resnet50 < cascade_mask_rcnn resnext101_32x4d_dcn
cascade_rcnn resnet50 < cascade_rcnn resnet101
cascade_rcnn resnet50 < cascade_rcnn resnet50
cascade_rcnn resnet50 < faster_rcnn resnet101
cascade_rcnn resnet50 < faster_rcnn resnet50
dynamic_rcnn resnet101 < cascade_mask_rcnn resnext101_32x4d_dcn
dynamic_rcnn resnet50 < cascade_mask_rcnn resnext101_32x4d_dcn
faster_rcnn resnet101 < cascade_mask_rcnn resnext101_32x4d_dcn
faster_rcnn resnet18 < cascade_mask_rcnn resnext101_32x4d_dcn
faster_rcnn resnet50 cityscapes < cascade_mask_rcnn resnext101_32x4d_dcn
faster_rcnn resnet50 < cascade_mask_rcnn resnet101
faster_rcnn resnet50 < cascade_mask_rcnn resnext101_32x4d_dcn
faster_rcnn resnet50 < cascade_rcnn resnet101
faster_rcnn resnet50 < cascade_rcnn resnet50
faster_rcnn resnet50 < faster_rcnn resnet101
faster_rcnn resnet50 < faster_rcnn resnet50
fcos resnet18 pdf_fpn < fcos resnet34 pdf_pafpn
fcos resnet50 distribution < fcos resnet101 distribution
fcos resnet50 < fcos resnet101
fcos shufflenetv2_0.5 pdf_fpn < fcos shufflenetv2_1.0 pdf_pafpn
fsaf resnet101 < retinanet resnext101_64x4d
fsaf resnet50 < retinanet resnext101_64x4d
gfl resnet18 ciou < gfl resnet101 ciou
gfl resnet18 ciou < gfl resnet101_dcn ciou
gfl resnet18 ciou < gfl resnet34 ciou
gfl resnet18 ciou < gfl resnet50 ciou
gfl resnet18 < gfl resnet101
gfl resnet18 < gfl resnet18
gfl resnet50 < gfl resnet101
gfl resnet50 < gfl resnet50
gfl resnext101_32x4d_dcn < gfl resnext101_32x4d_dcn
grid_rcnn resnet101 < cascade_mask_rcnn resnext101_32x4d_dcn
grid_rcnn resnet18 < cascade_mask_rcnn resnext101_32x4d_dcn
grid_rcnn resnet50 < cascade_mask_rcnn resnext101_32x4d_dcn
mask_rcnn resnet101 < cascade_mask_rcnn resnext101_32x4d_dcn
mask_rcnn resnet50 cityscapes < cascade_mask_rcnn resnext101_32x4d_dcn
mask_rcnn resnet50 < cascade_mask_rcnn resnext101_32x4d_dcn
reppoints resnet101 < retinanet resnext101_64x4d
reppoints resnet50 < retinanet resnext101_64x4d
retinanet regnetx_800mf < retinanet resnext101_64x4d
retinanet resnet101 < retinanet resnext101_64x4d
retinanet resnet18 pdf_fpn < retinanet resnet34 pdf_pafpn
retinanet resnet18 < retinanet resnext101_64x4d
retinanet resnet50 distribution < retinanet resnet101 distribution
retinanet resnet50 < retinanet resnet101
retinanet resnet50 < retinanet resnext101_64x4d
retinanet shufflenetv2_0.5 pdf_fpn < retinanet shufflenetv2_1.0 pdf_pafpn
ssd vgg16 < ssd vgg16 doubled
yolov3 darknet53 < yolov3 darknet53 doubled
"""
# Pairs of other papers, and of a researcher's own, whose networks are given different pixels.
FURTHER = """
fcos resnet50 < fcos resnext101_64x4d
fcos resnet50 < retinanet resnet101
retinanet regnetx_800mf < fcos resnet101
retinanet resnet50 < fcos resnet101
gfl resnet50 < gfl regnetx_800mf
"""
DIFFERING = {"fcos resnet50 distribution < fcos resnet101 distribution", "retinanet regnetx_800mf < retinanet resnext101_64x4d"}


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


def network(text: str, narrow: bool = True) -> Network:
    detector, backbone, form = [*text.split(), None][:3]
    width = {"ssd": 16, "yolov3": 16}.get(str(detector), 8) if narrow else None
    return Network(detector=detector, backbone=backbone, form=form, width=width)


@functools.cache
def preprocessor(text: str) -> Any:
    """What a network is given at paper scale."""
    register()
    with scope():
        return MODELS.build(model_config(network(text, narrow=False), 3).data_preprocessor)


def built(text: str) -> Any:
    """The network, narrow, with the input that it has at paper scale."""
    torch.manual_seed(len(text))
    model: Any = build(network(text), 3)
    model.data_preprocessor = preprocessor(text)
    return model


def raw(sizes: tuple[tuple[int, int], ...] = ((128, 96), (100, 128))) -> dict[str, Any]:
    """Pictures of several sizes as a loader gives them, with objects that lie in all of them."""
    generator = torch.Generator().manual_seed(0)
    samples = batch()["data_samples"]
    return {
        "inputs": [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes],
        "data_samples": samples,
    }


@pytest.mark.parametrize("pair", [*lines(PAIRS), *lines(FURTHER)])
def test_a_teacher_sees_in_the_distilled_step_what_it_sees_alone(pair: str) -> None:
    names = tuple(text.strip() for text in pair.split("<"))
    student, teacher = built(names[0]), built(names[1])
    infos = describe(network(names[0]), student), describe(network(names[1]), teacher)
    model = DistilledDetector(student, teacher, [], infos).train()
    assert isinstance(model.data_preprocessor, PairedPreprocessor) == (pair in {*DIFFERING, *lines(FURTHER)})
    seen: list[Any] = []
    teacher.neck.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(**model.data_preprocessor(raw(), training=True), mode="loss")
    with torch.no_grad():
        alone = teacher.extract_feat(preprocessor(names[1])({"inputs": raw()["inputs"], "data_samples": None}, False)["inputs"])
    for ours, theirs in zip(seen[0], alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert max(float(level.abs().max()) for level in alone) > 1e-3


def test_at_nano_every_network_is_given_the_same() -> None:
    names = {text.strip() for pair in lines(PAIRS) for text in pair.split("<")}
    given = {input_of(model_config(network(name), 3).data_preprocessor) for name in names}
    assert [str(each) for each in given] == ["RGB minus (123.675, 116.28, 103.53) over (58.395, 57.12, 57.375)"]


def test_a_mixed_image_is_mixed_alike_for_a_teacher_that_is_given_other_pixels() -> None:
    student, teacher = built("fcos resnet18 pdf_fpn"), built("retinanet regnetx_800mf")
    model = DistilledDetector(student, teacher, [], (describe(network("fcos resnet18 pdf_fpn"), student),) * 2)
    mix_until(model, 0, 10)
    torch.manual_seed(next(seed for seed in range(50) if torch.manual_seed(seed) and torch.randperm(2).tolist() == [1, 0]))
    square = raw(((128, 128), (128, 128)))
    given = model.data_preprocessor(square, training=True)
    share, other, _ = given["data_samples"][0].metainfo["mixed"]
    alone = teacher.data_preprocessor({"inputs": square["inputs"], "data_samples": None}, False)["inputs"]
    torch.testing.assert_close(given["teacher_inputs"][0], share * alone[0] + (1 - share) * alone[other])
    assert 0 < share < 1


def test_d_pred_compares_a_teacher_that_is_given_other_pixels_as_it_predicts_alone() -> None:
    text = "fcos resnet18"
    student, teacher = built(text), built(text)
    teacher.load_state_dict(student.state_dict())
    teacher.data_preprocessor = preprocessor("fcos resnet50")
    together = preprocessor_of(student, teacher)
    for differs in (True, False):
        ready = together(raw())
        difference = prediction_difference(logits(teacher, ready["teacher_inputs"]), logits(student, ready["inputs"]))
        assert (float(difference.max()) > 1e-6) == differs
        together.teacher = together.student


def test_images_padded_to_multiples_that_do_not_fit_are_refused_in_one_sentence() -> None:
    student, teacher = built("retinanet resnet18"), built("retinanet resnet34 pdf_pafpn")
    assert not same_batches(student.data_preprocessor, teacher.data_preprocessor)
    together = PairedPreprocessor(student.data_preprocessor, teacher.data_preprocessor)
    assert together(raw())["teacher_inputs"].shape == (2, 3, 128, 128)
    with pytest.raises(TrialFailure, match="multiples of 64 pixels and the student's to multiples of 32"):
        together(raw(((96, 96), (90, 96))))
    other_way = PairedPreprocessor(teacher.data_preprocessor, student.data_preprocessor)
    given = other_way(raw(((96, 96), (90, 96))))
    assert given["teacher_inputs"].shape == given["inputs"].shape == (2, 3, 128, 128)
    assert not given["teacher_inputs"][:, :, 96:].any()
