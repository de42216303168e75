"""Detections beside the objects of their images, all pairs of them at once: how they overlap, and which detection found which object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Numbers = NDArray[np.int64]

MAX_DETECTIONS = 100  # per image and class


@dataclass(frozen=True)
class Scene:
    """One image: objects (boxes (G, 4) xyxy, labels (G,), crowd (G,), areas (G,) as annotated, in pixels) and detections
    (boxes (D, 4), labels (D,), scores (D,))."""

    boxes: Floats
    labels: Numbers
    crowd: Bools
    areas: Floats
    found_boxes: Floats
    found_labels: Numbers
    found_scores: Floats


class Pairs:
    """The objects (G,) and detections (D,) of some scenes, and all pairs (P,) of a detection and an object of its image.

    Objects stand as they are annotated; detections by image, then class, then score from the best, the best MAX_DETECTIONS of an image
    and class. `of` and `on` are the numbers of a pair's detection and object; the pairs of a detection stand together.
    iou: intersection over union. covered: intersection over the detection's own area. same: whether both are of one class.
    """

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.objects = joined([scene.boxes for scene in scenes], float, (0, 4))
        self.object_labels = joined([scene.labels for scene in scenes], np.int64)
        self.crowd = joined([scene.crowd for scene in scenes], bool)
        self.object_areas = joined([scene.areas for scene in scenes], float)

        images = np.repeat(np.arange(len(scenes)), [len(scene.found_labels) for scene in scenes])
        labels = joined([scene.found_labels for scene in scenes], np.int64)
        scores = joined([scene.found_scores for scene in scenes], float)
        order = np.lexsort((-scores, labels, images))  # stable
        order = order[_places(images[order], labels[order]) < MAX_DETECTIONS]
        self.images, self.labels, self.scores = images[order], labels[order], scores[order]
        self.boxes = joined([scene.found_boxes for scene in scenes], float, (0, 4))[order]

        per_image = np.array([len(scene.labels) for scene in scenes], dtype=np.int64)
        counts, first = per_image[self.images], (per_image.cumsum() - per_image)[self.images]
        self.of = np.repeat(np.arange(len(order)), counts)
        self.on = np.arange(len(self.of)) + np.repeat(first - counts.cumsum() + counts, counts)
        self.same = self.labels[self.of] == self.object_labels[self.on]
        boxes, objects = self.boxes[self.of], self.objects[self.on]
        shared = areas(np.concatenate([np.maximum(boxes[:, :2], objects[:, :2]), np.minimum(boxes[:, 2:], objects[:, 2:])], 1), 0.0)
        own = areas(boxes)
        self.iou, self.covered = _shares(shared, own + areas(objects) - shared), _shares(shared, own)

    def any(self, pairs: Bools) -> Bools:
        """Which detections are in one of the pairs, (D,)."""
        return np.bincount(self.of[pairs], minlength=len(self.labels)).astype(bool)

    def best_first(self, pairs: Bools) -> Numbers:
        """Numbers of the pairs, detection by detection and from the largest overlap; among equals the last object first, as in COCO's
        code."""
        numbers = np.flatnonzero(pairs)
        return numbers[np.lexsort((-self.on[numbers], -self.iou[numbers], self.of[numbers]))]

    def greedy_hits(self, pairs: Bools, threshold: float) -> Bools:
        """COCO's matching, which detections (D,) hit an object: from the best detection of an image and class on, each takes the free
        object it overlaps most. pairs: those that may be taken, of one class each."""
        wanted = self.best_first(pairs & (self.iou >= min(threshold, 1 - 1e-10)))
        of, on = self.of[wanted], self.on[wanted]
        rivals, number = np.unique(of, return_inverse=True)
        # Detections at one place of their images and classes have their turn together: no two of them want one object.
        places = _places(self.images[rivals], self.labels[rivals])[number]
        free, hits = np.ones(len(self.objects), dtype=bool), np.zeros(len(self.labels), dtype=bool)
        for turn in _alike(places):
            left = turn[free[on[turn]]]
            taken = left[_begins(of[left])]
            free[on[taken]], hits[of[taken]] = False, True
        return hits


def chunks(scenes: Sequence[Scene], most: int = 500_000) -> Iterator[Pairs]:
    """The scenes in order, as many at a time as have about `most` pairs (some 100 bytes each); of no scene the pairs of none."""
    first = pairs = 0
    for number, scene in enumerate(scenes, start=1):
        pairs += len(scene.labels) * len(scene.found_labels)
        if pairs >= most or number == len(scenes):
            yield Pairs(scenes[first:number])
            first, pairs = number, 0
    if not scenes:
        yield Pairs(scenes)


def joined(parts: Sequence[NDArray[Any]], kind: Any, empty: tuple[int, ...] = (0,)) -> NDArray[Any]:
    """The arrays one after another; `empty`: the shape where there is none."""
    return np.concatenate([np.empty(empty, kind), *parts]).astype(kind, copy=False)


def areas(boxes: Floats, least: float = -np.inf) -> Floats:
    """Areas of boxes xyxy, with sides of `least` at least."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clip(least)
    return sides[:, 0] * sides[:, 1]


def pairwise_iou(first: Floats, second: Floats) -> Floats:
    """Intersection over union (D, G) of boxes xyxy."""
    corner = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(first[:, None, :2], second[None, :, :2])
    shared = corner.clip(0).prod(2)
    return _shares(shared, areas(first)[:, None] + areas(second)[None] - shared)


def _shares(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _begins(*keys: NDArray[Any]) -> Bools:
    """Where, of ordered keys, a row differs from the one before."""
    begins = np.zeros(len(keys[0]), dtype=bool)
    begins[:1] = True
    for key in keys:
        begins[1:] |= key[1:] != key[:-1]
    return begins


def _places(*keys: NDArray[Any]) -> Numbers:
    """Of ordered keys, how many rows before a row are equal to it."""
    rows = np.arange(len(keys[0]))
    places: Numbers = rows - np.maximum.accumulate(np.where(_begins(*keys), rows, 0))
    return places


def _alike(places: Numbers) -> Iterator[Numbers]:
    """The rows at place 0 in their order, then those at place 1, ..."""
    order = np.argsort(places, kind="stable")
    yield from np.split(order, np.flatnonzero(_begins(places[order]))[1:]) if len(order) else ()
