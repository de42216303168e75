"""What detections get wrong, by COCO's error analysis (cocodataset.org/#detection-eval), as in Zhang & Ma's Fig. 7 (ICLR 2021).

Seven precision-recall curves, each forgiving more than the one before: at IoU 0.75, at 0.50, then at 0.10 (errors of
localisation), without confusions of similar classes, of all classes, without false positives at all, and without misses.
The area between two neighbours is the AP that one kind of error costs. Beside it VOC 2007's mAP, which needs the same matching.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.evaluation.matching import Bools, Floats, Numbers, Pairs, Scene, areas, chunks, joined

CURVES = ("C75", "C50", "Loc", "Sim", "Oth", "BG", "FN")  # COCO's names
ERRORS = {
    "err_localisation": ("C50", "Loc"),
    "err_similar": ("Loc", "Sim"),
    "err_other": ("Sim", "Oth"),
    "err_background": ("Oth", "BG"),
    "err_missed": ("BG", "FN"),
}
RECALLS = np.linspace(0.0, 1.0, 101)
AREA_RANGES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # pixels


def error_curves(scenes: Sequence[Scene], groups: Sequence[str], area: str = "all") -> dict[str, Floats]:
    """Precision (101,) over recalls 0 to 1, of each of CURVES: the mean over the classes that have objects; empty where none has.

    groups: supercategory of each label. area: one of AREA_RANGES; objects of other sizes neither count nor make a detection false.
    """
    objects = _count(scenes, len(groups), AREA_RANGES[area])
    judged = _by_class([_judge(pairs, groups, AREA_RANGES[area]) for pairs in chunks(scenes)], len(groups))
    curves = [_class_curves(judged[label], int(objects[label])) for label in np.flatnonzero(objects)]
    return {name: np.mean([curve[name] for curve in curves], axis=0) for name in CURVES} if curves else {}


def error_costs(curves: dict[str, Floats]) -> dict[str, float]:
    """Percent of AP that each kind of error costs; with AP50 they add up to 100."""
    area = {name: 100.0 * float(curve.mean()) for name, curve in curves.items()}
    return {name: area[after] - area[before] for name, (before, after) in ERRORS.items()}


def voc07_map(scenes: Sequence[Scene], classes: int) -> float:
    """VOC 2007's mAP at IoU 0.50 in percent: 11 recalls, crowd objects as its difficult ones; NaN where no class has an object.

    A detection belongs to the object it overlaps most; on a difficult object it does not count, on one that a better
    detection has found it is false (Everingham et al., IJCV 2010).
    """
    objects = _count(scenes, classes, AREA_RANGES["all"])
    judged = _by_class([_voc07_judge(pairs) for pairs in chunks(scenes)], classes)
    found = [_voc07_ap(judged[label], int(objects[label])) for label in np.flatnonzero(objects)]
    return 100.0 * float(np.mean(found)) if found else float("nan")


def _count(scenes: Sequence[Scene], classes: int, area: tuple[float, float]) -> Numbers:
    """Objects of each class, and of such an area, that are to be found, (classes,)."""
    counted = [scene.labels[~scene.crowd & _within(scene.areas, area)] for scene in scenes]
    return np.bincount(joined(counted, np.int64), minlength=classes)


def _within(areas: Floats, area: tuple[float, float]) -> Bools:
    within: Bools = (areas >= area[0]) & (areas <= area[1])
    return within


# Of detections by image, class and score: their `labels`, `scores`, and what was found of them, (D,) each.
Judged = dict[str, NDArray[Any]]


def _by_class(parts: Sequence[Judged], classes: int) -> list[Judged]:
    """Of each class what was found of its detections, from the best score on."""
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((-whole["scores"], whole["labels"]))  # stable
    ends = np.searchsorted(whole["labels"][order], np.arange(1, classes))
    split = {name: np.split(values[order], ends) for name, values in whole.items()}
    return [{name: values[label] for name, values in split.items()} for label in range(classes)]


def _class_curves(at: Judged, objects: int) -> dict[str, Floats]:
    """The curves of a class with so many objects."""
    curves = {
        "C75": _precisions(at["hit75"], at["crowd75"], objects),
        "C50": _precisions(at["hit50"], at["crowd50"], objects),
        "Loc": _precisions(at["hit10"], at["crowd10"], objects),
        "Sim": _precisions(at["hit10"], at["similar10"], objects),
        "Oth": _precisions(at["hit10"], at["other10"], objects),
    }
    return {**curves, "BG": (curves["Oth"] > 0).astype(float), "FN": np.ones_like(RECALLS)}


def _judge(pairs: Pairs, groups: Sequence[str], area: tuple[float, float]) -> Judged:
    """Which detections hit an object at each IoU, and which are forgiven for what they touch."""
    crowd, within = pairs.crowd[pairs.on], _within(pairs.object_areas, area)[pairs.on]
    real, aside = pairs.same & ~crowd & within, pairs.same & ~crowd & ~within
    group = np.unique(groups, return_inverse=True)[1]
    similar = group[pairs.labels][pairs.of] == group[pairs.object_labels][pairs.on]
    own = pairs.same & crowd
    crowds = {"crowd": own, "similar": own | (similar & ~pairs.same), "other": ~(real | aside)}
    other_size = ~_within(areas(pairs.boxes), area)
    judged: Judged = {"labels": pairs.labels, "scores": pairs.scores}
    for percent in (75, 50, 10):
        hits = judged[f"hit{percent}"] = pairs.greedy_hits(real, percent / 100)
        for name in ("crowd",) if percent > 10 else crowds:
            judged[f"{name}{percent}"] = _forgiven(pairs, aside, crowds[name], hits, percent / 100) | other_size
    return judged


def _forgiven(pairs: Pairs, aside: Bools, crowds: Bools, hits: Bools, threshold: float) -> Bools:
    """Which detections (D,) are on what does not count: on a crowd, or, being no hit, on an object of another size.

    aside: pairs with such objects; one forgives one detection, unless a crowd is nearer. crowds: pairs with what is taken for a crowd,
    which forgives whoever has that share of its own area on it.
    """
    touched = pairs.any(crowds & (pairs.covered >= threshold))
    if aside.any():
        nearest = np.zeros(len(pairs.labels))
        np.maximum.at(nearest, pairs.of[crowds], pairs.covered[crowds])
        touched |= pairs.greedy_hits(aside & ~hits[pairs.of] & (pairs.iou >= nearest[pairs.of]), threshold)
    return touched


def _precisions(hits: Bools, forgiven: Bools, objects: int) -> Floats:
    """Precision (101,) at RECALLS of detections ordered by score; a hit counts, what is forgiven is left out."""
    counted = hits | ~forgiven
    right = hits[counted].cumsum()
    precision = right / np.maximum(1, np.arange(1, len(right) + 1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    position = np.searchsorted(right / objects, RECALLS, side="left")
    return np.concatenate([precision, [0.0]])[np.minimum(position, len(precision))]


def _voc07_judge(pairs: Pairs) -> Judged:
    """Which detections count, and which hit the object they overlap most as the first."""
    near = np.flatnonzero(pairs.same & (pairs.iou >= 0.5))
    near = near[np.lexsort((-pairs.iou[near], pairs.of[near]))]  # stable: among equals the first object
    of, nearest = np.unique(pairs.of[near], return_index=True)
    on = pairs.on[near[nearest]]
    counts, hits = np.ones(len(pairs.labels), dtype=bool), np.zeros(len(pairs.labels), dtype=bool)
    counts[of[pairs.crowd[on]]] = False
    of, on = of[~pairs.crowd[on]], on[~pairs.crowd[on]]
    hits[of[np.unique(on, return_index=True)[1]]] = True
    return {"labels": pairs.labels, "scores": pairs.scores, "counts": counts, "hits": hits}


def _voc07_ap(at: Judged, objects: int) -> float:
    right = at["hits"][at["counts"]].cumsum()
    precision, recall = right / np.arange(1, len(right) + 1), right / objects
    return float(np.mean([precision[recall >= step - 1e-12].max(initial=0.0) for step in np.linspace(0, 1, 11)]))
