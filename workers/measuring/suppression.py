"""A detector under another NMS threshold: its AP, and how many boxes it keeps for one object (LD's supplement, Figs. 1 and 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workers.evaluation.matching import Scene, pairwise_iou
from workers.measuring.found import detections, set_suppression
from workers.measuring.setting import Measured, Setting

OVERLAP = 0.5  # IoU from which a box of the right class belongs to an object


def measure(setting: Setting) -> Measured:
    """`AP` and `AP75` in percent, `detections` per image, and `duplicates`: boxes of the right class per object that was found."""
    set_suppression(setting.detector, setting.options.threshold)
    found = detections(setting)
    metrics = {name: value for name, value in found.average_precisions().items() if name in ("AP", "AP75")}
    scenes = found.scenes
    boxes, objects = duplicates(scenes)
    metrics["detections"] = sum(len(scene.found_scores) for scene in scenes) / len(scenes)
    if objects:
        metrics["duplicates"] = boxes / objects
    return Measured(metrics, {"threshold": setting.options.threshold, "boxes": boxes, "objects": objects, "images": len(scenes)})


def duplicates(scenes: Sequence[Scene]) -> tuple[int, int]:
    """How many boxes lie on an object of their class, each on the one it overlaps most, and on how many objects they lie."""
    boxes = objects = 0
    for scene in scenes:
        real = ~scene.crowd
        ious = pairwise_iou(scene.found_boxes, scene.boxes[real])
        ious[scene.found_labels[:, None] != scene.labels[real]] = 0.0
        if not ious.size:
            continue
        on = ious.max(1) >= OVERLAP
        boxes += int(on.sum())
        objects += len(np.unique(ious.argmax(1)[on]))
    return boxes, objects
