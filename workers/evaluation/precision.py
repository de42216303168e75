"""Average precision of boxes and masks at full precision, by faster-coco-eval (same definition as pycocotools), and what goes wrong."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from workers.evaluation.errors import error_costs, error_curves, voc07_map
from workers.evaluation.matching import Scene

# Metric name -> position in COCO's summary.
SUMMARY = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5}
# Metric name -> position among the IoU thresholds 0.50, 0.55, ...
FURTHER = {"AP60": 2, "AP70": 4, "AP80": 6, "AP90": 8}


class DetectionMetric(BaseMetric):
    """Collects detections of a validation pass and compares them with a COCO annotation file.

    mmdet's own metric rounds to three digits; gains between distillers can be smaller. A size class without any object
    is left out of the result. Per epoch the box AP; with `thorough` also masks, VOC's AP and the error types, and
    `curves` holds precision by recall of each error type.
    """

    default_prefix = None

    def __init__(self, ann_file: str, masks: bool = False) -> None:
        super().__init__()
        self.ann_file = ann_file
        self.masks = masks
        self.thorough = False
        self.curves: dict[str, list[float]] = {}

    @cached_property
    def truth(self) -> tuple[Any, list[int]]:
        """The annotation file, read once for all epochs."""
        return ground_truth(self.ann_file, self.dataset_meta["classes"])

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        for sample in data_samples:
            found = sample["pred_instances"]
            self.results.append(
                (
                    sample["img_id"],
                    found["bboxes"].cpu().numpy().astype(float),
                    found["scores"].cpu().numpy().astype(float),
                    found["labels"].cpu().numpy(),
                    encoded(found["masks"]) if self.masks and self.thorough else [],
                )
            )

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        with contextlib.redirect_stdout(io.StringIO()):
            truth, categories = self.truth
            metrics = average_precisions(truth, box_results(results, categories), [image for image, *_ in results], categories)
            if not self.thorough:
                return {name: metrics[name] for name in SUMMARY if name in metrics}
            if self.masks:
                found = average_precisions(truth, mask_results(results, categories), [image for image, *_ in results], categories, "segm")
                metrics |= {f"mask_{name}": value for name, value in found.items() if name in SUMMARY}
        scenes = [scene_of(truth, categories, *result[:4]) for result in results]
        curves = error_curves(scenes, groups_of(truth, categories))
        self.curves = {name: curve.tolist() for name, curve in curves.items()}
        return {**metrics, **error_costs(curves), "mAP07": voc07_map(scenes, len(categories))} if curves else metrics


def ground_truth(ann_file: str, classes: Sequence[str]) -> tuple[Any, list[int]]:
    """A COCO annotation file, and the category id of every label."""
    from faster_coco_eval import COCO

    truth = COCO(ann_file)
    ids = {category["name"]: category["id"] for category in truth.loadCats(truth.getCatIds())}
    return truth, [ids[name] for name in classes]


def groups_of(truth: Any, categories: list[int]) -> list[str]:
    """Supercategory of every label."""
    return [truth.cats[category].get("supercategory") or str(category) for category in categories]


def encoded(masks: Any) -> list[dict[str, Any]]:
    """Masks (N, H, W) as run lengths."""
    from pycocotools import mask as coco_mask

    return [coco_mask.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8))) for mask in masks]


def box_results(results: list[Any], categories: list[int]) -> list[dict[str, Any]]:
    """(image, boxes xyxy, scores, labels, ...) as COCO's list of detections."""
    return [
        {
            "image_id": image,
            "category_id": categories[label],
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "score": score,
        }
        for image, boxes, scores, labels, *_ in results
        for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)
    ]


def mask_results(results: list[Any], categories: list[int]) -> list[dict[str, Any]]:
    """(image, boxes, scores, labels, masks) as COCO's list of detections by mask."""
    return [
        {"image_id": image, "category_id": categories[label], "segmentation": mask, "score": score}
        for image, _, scores, labels, masks in results
        for mask, score, label in zip(masks, scores.tolist(), labels.tolist(), strict=True)
    ]


def average_precisions(
    truth: Any, detections: list[dict[str, Any]], images: list[Any], categories: list[int], kind: str = "bbox"
) -> dict[str, float]:
    """COCO's AP in percent: SUMMARY and FURTHER, without size classes that have no object. kind: "bbox" or "segm"."""
    from faster_coco_eval import COCOeval_faster

    evaluation = COCOeval_faster(truth, truth.loadRes(detections or [_nothing(truth, images[0], categories[0], kind)]), kind)
    evaluation.params.imgIds = images
    evaluation.params.catIds = categories
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    stats = np.asarray(evaluation.stats, dtype=float)
    metrics = {name: float(stats[position]) for name, position in SUMMARY.items()}
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]  # IoU, recall, class; all sizes, 100 detections
    for name, position in FURTHER.items():
        known = precision[position][precision[position] > -1]
        metrics[name] = float(known.mean()) if known.size else -1.0
    return {name: 100.0 * value for name, value in metrics.items() if value >= 0}


def _nothing(truth: Any, image: Any, category: int, kind: str) -> dict[str, Any]:
    """An empty detection: COCO's code takes no empty list, and this one scores the same zero."""
    from pycocotools import mask as coco_mask

    entry = truth.imgs[image]
    empty = coco_mask.encode(np.zeros((entry["height"], entry["width"]), np.uint8, order="F"))
    place = {"bbox": [0.0, 0.0, 0.0, 0.0]} if kind == "bbox" else {"segmentation": empty}
    return {"image_id": image, "category_id": category, "score": 0.0, **place}


def scene_of(truth: Any, categories: list[int], image: Any, boxes: Any, scores: Any, labels: Any) -> Scene:
    """The objects of an image and what was found in it."""
    objects = truth.imgToAnns[image]
    corners = np.array([annotation["bbox"] for annotation in objects], dtype=float).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return Scene(
        boxes=corners,
        labels=np.array([categories.index(annotation["category_id"]) for annotation in objects], dtype=np.int64),
        crowd=np.array([bool(annotation.get("iscrowd", 0)) for annotation in objects], dtype=bool),
        areas=np.array([annotation["area"] for annotation in objects], dtype=float),
        found_boxes=boxes.reshape(-1, 4),
        found_labels=labels.astype(np.int64),
        found_scores=scores,
    )
