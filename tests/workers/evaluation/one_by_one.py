"""COCO's error analysis and VOC's mAP as they read: image by image, detection by detection. What the fast one is held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workers.evaluation.errors import AREA_RANGES, CURVES, RECALLS, _precisions
from workers.evaluation.matching import MAX_DETECTIONS, Bools, Floats, Scene


def error_curves(scenes: Sequence[Scene], groups: Sequence[str], area: str = "all") -> dict[str, Floats]:
    """Precision (101,) over recalls 0 to 1, of each of CURVES: the mean over the classes that have objects; empty where none has.

    groups: supercategory of each label. area: one of AREA_RANGES; objects of other sizes neither count nor make a detection false.
    """
    curves = [found for label in range(len(groups)) if (found := _class_curves(scenes, label, groups, AREA_RANGES[area])) is not None]
    if not curves:
        return {}
    return {name: np.mean([curve[name] for curve in curves], axis=0) for name in CURVES}


def voc07_map(scenes: Sequence[Scene], classes: int) -> float:
    """VOC 2007's mAP at IoU 0.50 in percent: 11 recalls, crowd objects as its difficult ones; NaN where no class has an object.

    A detection belongs to the object it overlaps most; on a difficult object it does not count, on one that a better
    detection has found it is false (Everingham et al., IJCV 2010).
    """
    found = []
    for label in range(classes):
        objects = _count(scenes, label)
        if objects:
            rows = [_voc07_hits(scene, label) for scene in scenes if label in scene.found_labels]
            found.append(_voc07_ap(rows, objects) if rows else 0.0)
    return 100.0 * float(np.mean(found)) if found else float("nan")


def _count(scenes: Sequence[Scene], label: int, area: tuple[float, float] = AREA_RANGES["all"]) -> int:
    """Objects of a class, and of such an area, that are to be found."""
    return sum(int((~scene.crowd & (scene.labels == label) & _within(scene.areas, area)).sum()) for scene in scenes)


def _within(areas: Floats, area: tuple[float, float]) -> Bools:
    within: Bools = (areas >= area[0]) & (areas <= area[1])
    return within


def _class_curves(scenes: Sequence[Scene], label: int, groups: Sequence[str], area: tuple[float, float]) -> dict[str, Floats] | None:
    """The curves of one class, or None where it has no object of such an area."""
    objects = _count(scenes, label, area)
    if not objects:
        return None
    rows = [_judge(scene, label, groups, area) for scene in scenes if label in scene.found_labels]
    if not rows:
        return {name: np.full_like(RECALLS, name == "FN") for name in CURVES}
    scores = np.concatenate([row["scores"] for row in rows])
    order = np.argsort(-scores, kind="mergesort")
    at = {name: np.concatenate([row[name] for row in rows])[order] for name in rows[0]}
    curves = {
        "C75": _precisions(at["hit75"], at["crowd75"], objects),
        "C50": _precisions(at["hit50"], at["crowd50"], objects),
        "Loc": _precisions(at["hit10"], at["crowd10"], objects),
        "Sim": _precisions(at["hit10"], at["similar10"], objects),
        "Oth": _precisions(at["hit10"], at["other10"], objects),
    }
    return {**curves, "BG": (curves["Oth"] > 0).astype(float), "FN": np.ones_like(RECALLS)}


def _judge(scene: Scene, label: int, groups: Sequence[str], area: tuple[float, float]) -> dict[str, NDArray[np.generic]]:
    """For the class's detections, best first: which hit an object at each IoU, and which are forgiven for what they touch."""
    boxes, scores = _detections(scene, label)
    own, within = scene.labels == label, _within(scene.areas, area)
    real, aside = own & ~scene.crowd & within, own & ~scene.crowd & ~within
    ious = pairwise_iou(boxes, scene.boxes)
    covered = pairwise_iou(boxes, scene.boxes, of_first=True)  # as for crowds: share of the detection's own area
    similar = np.array([groups[other] == groups[label] for other in scene.labels], dtype=bool)
    crowds = {"crowd": own & scene.crowd, "similar": (own & scene.crowd) | (similar & ~own), "other": ~(real | aside)}
    other_size = ~_within((boxes[:, 2:] - boxes[:, :2]).prod(1), area)
    judged: dict[str, NDArray[np.generic]] = {"scores": scores}
    for percent in (75, 50, 10):
        hits = judged[f"hit{percent}"] = greedy_hits(ious[:, real], percent / 100)
        for name in ("crowd",) if percent > 10 else crowds:
            touched = _forgiven(ious[:, aside], covered[:, crowds[name]], hits, percent / 100)
            judged[f"{name}{percent}"] = touched | other_size
    return judged


def _forgiven(aside: Floats, crowds: Floats, hits: Bools, threshold: float) -> Bools:
    """Which detections are on what does not count: on a crowd, or, being no hit, on an object of another size.

    aside: IoU with such objects (D, A); one forgives one detection, unless a crowd is nearer. crowds: shares of the detections (D, C).
    """
    touched = _touches(crowds, threshold)
    if aside.shape[1]:
        nearer = aside >= np.max(crowds, axis=1, initial=0.0)[:, None]
        touched[~hits] |= greedy_hits(np.where(nearer, aside, 0.0)[~hits], threshold)
    return touched


def _touches(covered: Floats, share: float) -> Bools:
    """Which detections (rows) have that share of their area on one of the objects."""
    touched: Bools = np.logical_or.reduce(covered >= share, axis=1)
    return touched


def _detections(scene: Scene, label: int) -> tuple[Floats, Floats]:
    """Boxes and scores of a class's detections, best first."""
    own = np.flatnonzero(scene.found_labels == label)
    order = own[np.argsort(-scene.found_scores[own], kind="mergesort")][:MAX_DETECTIONS]
    return scene.found_boxes[order], scene.found_scores[order]


def greedy_hits(ious: Floats, threshold: float) -> Bools:
    """COCO's matching of detections (rows, best first) to objects (columns): each takes the free object it overlaps most, (D,)."""
    free = ious.copy()
    hits = np.zeros(len(ious), dtype=bool)
    for row in np.flatnonzero((ious >= min(threshold, 1 - 1e-10)).any(1)) if ious.size else ():
        best = free.shape[1] - 1 - int(free[row, ::-1].argmax())  # among equals the last, as in COCO's code
        if free[row, best] >= min(threshold, 1 - 1e-10):
            hits[row] = True
            free[:, best] = -1.0
    return hits


def pairwise_iou(first: Floats, second: Floats, of_first: bool = False) -> Floats:
    """Intersection over union (D, G) of boxes xyxy; with `of_first` over the first box's area."""
    corner = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(first[:, None, :2], second[None, :, :2])
    shared = corner.clip(0).prod(2)
    area = (first[:, 2:] - first[:, :2]).prod(1)[:, None]
    whole = area if of_first else area + (second[:, 2:] - second[:, :2]).prod(1)[None] - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def _voc07_hits(scene: Scene, label: int) -> tuple[Floats, Bools]:
    """Scores of the class's detections that count, and which are right."""
    boxes, scores = _detections(scene, label)
    own = scene.labels == label
    if not own.any():
        return scores, np.zeros(len(scores), dtype=bool)
    ious, difficult = pairwise_iou(boxes, scene.boxes[own]), scene.crowd[own]
    best, overlap = ious.argmax(1), ious.max(1)
    hits, counts, taken = np.zeros(len(scores), dtype=bool), np.ones(len(scores), dtype=bool), set()
    for row in np.flatnonzero(overlap >= 0.5):
        if difficult[best[row]]:
            counts[row] = False
        elif best[row] not in taken:
            hits[row] = True
            taken.add(best[row])
    return scores[counts], hits[counts]


def _voc07_ap(rows: Sequence[tuple[Floats, Bools]], objects: int) -> float:
    scores, hits = (np.concatenate([row[part] for row in rows]) for part in (0, 1))
    right = hits[np.argsort(-scores, kind="mergesort")].cumsum()
    precision, recall = right / np.arange(1, len(right) + 1), right / objects
    return float(np.mean([precision[recall >= step - 1e-12].max(initial=0.0) for step in np.linspace(0, 1, 11)]))
