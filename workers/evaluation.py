"""COCO box average precision at full precision, by faster-coco-eval (same definition as pycocotools)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

# Metric name -> position in COCO's summary.
SUMMARY = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5}


class CocoBoxMetric(BaseMetric):
    """Collects detections of a validation pass and compares them with a COCO annotation file.

    mmdet's own metric rounds to three digits; gains between distillers can be smaller. A size class without any object
    is left out of the result.
    """

    default_prefix = None

    def __init__(self, ann_file: str) -> None:
        super().__init__()
        self.ann_file = ann_file

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        for sample in data_samples:
            found = sample["pred_instances"]
            self.results.append(
                (
                    sample["img_id"],
                    found["bboxes"].cpu().numpy().astype(float),
                    found["scores"].cpu().numpy().astype(float),
                    found["labels"].cpu().numpy(),
                )
            )

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        from faster_coco_eval import COCO, COCOeval_faster

        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(self.ann_file)
            ids = {category["name"]: category["id"] for category in truth.loadCats(truth.getCatIds())}
            categories = [ids[name] for name in self.dataset_meta["classes"]]
            detections = [
                {
                    "image_id": image,
                    "category_id": categories[label],
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "score": score,
                }
                for image, boxes, scores, labels in results
                for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)
            ]
            if not detections:
                return dict.fromkeys(("AP", "AP50", "AP75"), 0.0)
            evaluation = COCOeval_faster(truth, truth.loadRes(detections), "bbox")
            evaluation.params.imgIds = [image for image, *_ in results]
            evaluation.params.catIds = categories
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        stats = np.asarray(evaluation.stats, dtype=float)
        return {name: 100.0 * float(stats[position]) for name, position in SUMMARY.items() if stats[position] >= 0}
