"""What a detector finds in the validation split, beside what is there: the ground of every measurement of detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from studies.trial import TrialFailure
from workers.evaluation.matching import Scene
from workers.evaluation.precision import DetectionMetric, average_precisions, box_results, groups_of, scene_of
from workers.measuring.setting import Setting

Detections = tuple[Any, NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]  # image id, boxes xyxy, scores, labels


@dataclass(frozen=True)
class Found:
    """Detections of every image, in pixels of the original. groups: supercategory of each label."""

    images: list[Detections]
    truth: Any
    categories: list[int]
    groups: list[str]

    @property
    def scenes(self) -> list[Scene]:
        return [scene_of(self.truth, self.categories, *image) for image in self.images]

    def average_precisions(self) -> dict[str, float]:
        """COCO's AP of boxes, in percent."""
        return average_precisions(
            self.truth, box_results(self.images, self.categories), [image for image, *_ in self.images], self.categories
        )


def detections(setting: Setting) -> Found:
    """Everything that the measured detector finds in the validation split."""
    metric = DetectionMetric(setting.annotations)
    for batch in setting.batches():
        with torch.no_grad():
            metric.process(batch, [sample.to_dict() for sample in setting.detector.test_step(batch)])
    truth, categories = setting.truth
    return Found([result[:4] for result in metric.results], truth, categories, groups_of(truth, categories))


def set_suppression(model: Any, threshold: float) -> None:
    """Gives a detector another IoU from which boxes are suppressed. Raises TrialFailure where it has no such number."""
    config = (model.roi_head if hasattr(model, "roi_head") else model.bbox_head).test_cfg
    if "nms" not in config or "iou_threshold" not in config["nms"]:
        raise TrialFailure("user", "this detector's suppression has no IoU threshold to change")
    config["nms"]["iou_threshold"] = threshold
