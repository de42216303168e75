"""Seconds of the error analysis of as many images as COCO's val2017 has: 5,000 with 100 detections each, 80 classes, about 7 objects.

    python benchmarks/error_analysis.py [--images 5000]

Objects, detections near them, near misses, confused classes and false positives are drawn; what is measured is what a trial measures
after its last epoch (COCO's seven curves, VOC's mAP) and the measurement by sizes.
"""

import argparse
import time

import numpy as np

from workers.evaluation.errors import error_costs, error_curves, voc07_map
from workers.evaluation.matching import Scene

CLASSES, GROUPS, FOUND = 80, 12, 100


def scene(rng: np.random.Generator) -> Scene:
    """One image of 640 x 480 pixels."""
    count = 1 + rng.poisson(6.4)
    sides = np.exp(rng.uniform(np.log(10), np.log(300), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * np.maximum([640, 480] - sides, 1)
    boxes = np.concatenate([corner, corner + sides], 1)
    labels = rng.integers(0, CLASSES, count) if rng.random() < 0.5 else np.full(count, rng.integers(0, CLASSES))
    near = rng.integers(0, count, FOUND)  # the object that a detection lies by
    jitter = rng.normal(0, 1, (FOUND, 4)) * rng.choice([0.05, 0.2, 1.0], (FOUND, 1)) * np.tile(sides[near], 2)
    found = boxes[near] + jitter
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 2)
    kinds = np.where(rng.random(FOUND) < 0.5, labels[near], rng.integers(0, CLASSES, FOUND))
    scores = np.round(rng.uniform(0.05, 1, FOUND), 3)
    return Scene(boxes, labels, rng.random(count) < 0.01, sides.prod(1) * 0.6, found, kinds, scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    images = parser.parse_args().images
    rng = np.random.default_rng(0)
    scenes = [scene(rng) for _ in range(images)]
    groups = [str(label % GROUPS) for label in range(CLASSES)]
    print(f"{images} images, {sum(len(each.labels) for each in scenes)} objects, {FOUND} detections an image")
    for name, measure in {
        "error types": lambda: error_costs(error_curves(scenes, groups)),
        "VOC's mAP": lambda: voc07_map(scenes, CLASSES),
        "error types by size": lambda: [error_costs(error_curves(scenes, groups, area)) for area in ("small", "medium", "large")],
    }.items():
        started, wall = time.process_time(), time.perf_counter()
        measure()
        print(f"{name:20} {time.process_time() - started:7.1f} s CPU {time.perf_counter() - wall:7.1f} s", flush=True)


if __name__ == "__main__":
    main()
