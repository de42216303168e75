"""D_pred of two checkpoints: what the probabilities say, zero for a student that is its teacher, and refused where there is none."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope

from studies.recipes import RECIPES
from studies.spec import Network
from studies.trial import TrialFailure, TrialSpec
from tests.workers.measuring.conftest import SHORT, STUDENT, TEACHER, Measure, reference, trained
from workers.datasets.images import dataset_config, manifest_of
from workers.detectors import build, load_checkpoint
from workers.evaluation.differences import prediction_difference

Reference = dict[str, Any]


def opened(reference: Reference) -> Any:
    model = build(Network(**reference["network"]), 10)
    load_checkpoint(model, Path(reference["checkpoint"]), "detector")
    return model.eval()


def by_hand(student: Reference, teacher: Reference, data: Path, limit: int) -> float:
    """The mean over images of both heads' difference, image by image through mmdet alone."""
    trial = TrialSpec.model_validate({"dataset": "digits", "scale": "smoke", "network": STUDENT, "schedule": SHORT, "seed": 0})
    config = dataset_config(trial, data, "val", manifest_of("digits", data, "stop"), RECIPES["nano"], limit)
    with DefaultScope.overwrite_default_scope("mmdet"):
        images = DATASETS.build(config)
    networks, values = [opened(teacher), opened(student)], []
    for index in range(len(images)):
        inputs = networks[0].data_preprocessor(pseudo_collate([images[index]]), False)["inputs"]
        with torch.no_grad():
            values.append(prediction_difference(*(network(inputs)[0] for network in networks)))
    return float(torch.cat(values).mean())


def test_it_is_the_mean_over_the_validation_images(measure: Measure, student: Reference, teacher: Reference, data: Path) -> None:
    result = measure("d_pred", detector=student, teacher=teacher, limit=40)
    images = json.loads(result.document.read_text())["images"]
    assert len(images) == 40
    assert result.metrics["D_pred"] == pytest.approx(sum(images.values()) / 40, rel=1e-5)
    assert result.metrics["D_pred"] == pytest.approx(by_hand(student, teacher, data, 40), abs=1e-6)
    assert 0.001 < result.metrics["D_pred"] < 0.1


def test_a_student_that_is_its_teacher_differs_by_nothing(measure: Measure, student: Reference) -> None:
    assert measure("d_pred", detector=student, teacher=student, limit=20).metrics == {"D_pred": 0.0}


def test_two_stage_detectors_and_heads_of_other_shapes_are_refused(
    measure: Measure, student: Reference, tmp_path: Path, data: Path
) -> None:
    for detector, sentence in (("faster_rcnn", "one-stage"), ("retinanet", "cell by cell")):
        network = TEACHER | {"detector": detector}
        other = reference(trained(tmp_path / detector, data, network=network), network)
        with pytest.raises(TrialFailure, match=sentence) as failed:
            measure("d_pred", detector=student, teacher=other, limit=4)
        assert failed.value.kind == "user"
