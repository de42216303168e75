"""What a detector learns beside its weights: Dynamic R-CNN's thresholds, which follow from what it has seen.

They are in no state dict of mmdet's, so a training that goes on from a checkpoint has to be given them.
"""

from __future__ import annotations

from typing import Any

HISTORIES = ("iou_history", "beta_history")
THRESHOLDS = ("pos_iou_thr", "neg_iou_thr", "min_pos_iou")


def memory_of(detector: Any) -> dict[str, Any]:
    """Its thresholds and the statistics that the next ones are made from; empty for all others."""
    head: Any = getattr(detector, "roi_head", None)
    if not hasattr(head, "iou_history"):
        return {}
    return {
        **{name: [float(value) for value in getattr(head, name)] for name in HISTORIES},
        **{name: float(getattr(head.bbox_assigner, name)) for name in THRESHOLDS},
        "beta": float(head.bbox_head.loss_bbox.beta),
    }


def remember(detector: Any, memory: dict[str, Any]) -> None:
    """Gives a detector what `memory_of` found in one."""
    if not memory:
        return
    head = detector.roi_head
    for name in HISTORIES:
        setattr(head, name, list(memory[name]))
    for name in THRESHOLDS:
        setattr(head.bbox_assigner, name, memory[name])
    head.bbox_head.loss_bbox.beta = memory["beta"]
