"""Evaluation gives pycocotools' numbers, COCO's error analysis and VOC's AP, on random detections and on scenes worked out by hand."""

import contextlib
import copy
import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.evaluation.functional import eval_map
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from studies.catalog import METRICS
from tests.workers.detections import GROUPS, NAMES, annotation_file, detections
from tests.workers.evaluation import one_by_one
from workers.evaluation import errors
from workers.evaluation.errors import CURVES, error_costs, error_curves, voc07_map
from workers.evaluation.matching import Scene, chunks
from workers.evaluation.precision import DetectionMetric, box_results, ground_truth, groups_of, mask_results, scene_of

CATEGORIES = list(range(1, len(NAMES) + 1))
SIZES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def evaluated(path: Path, found: list[Any], masks: bool = False, thorough: bool = True) -> dict[str, float]:
    metric = DetectionMetric(str(path), masks)
    metric.thorough = thorough
    metric.dataset_meta = {"classes": NAMES}
    return metric.compute_metrics(found)


def reference(truth: Any, results: list[dict[str, Any]], kind: str, **params: Any) -> COCOeval:
    """pycocotools' own evaluation of the results."""
    evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), kind)
    for name, value in params.items():
        setattr(evaluation.params, name, value)
    evaluation.evaluate()
    evaluation.accumulate()
    if not params:
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(20))
def test_boxes_and_masks_score_as_with_pycocotools(tmp_path: Path, seed: int) -> None:
    path = annotation_file(tmp_path, seed)
    found = detections(path, seed)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(path)
        boxes = reference(truth, box_results(found, CATEGORIES), "bbox")
        masks = reference(truth, mask_results(found, CATEGORIES), "segm")
    metrics = evaluated(path, found, masks=True)
    for position, name in enumerate(SIZES):
        for prefix, stats in (("", boxes.stats), ("mask_", masks.stats)):
            if stats[position] < 0:  # pycocotools' way to say that there is no object of that size
                assert prefix + name not in metrics
            else:
                assert metrics[prefix + name] == pytest.approx(100 * stats[position], abs=1e-6)
    for name, position in {"AP60": 2, "AP70": 4, "AP80": 6, "AP90": 8}.items():
        precision = boxes.eval["precision"][position, :, :, 0, 2]
        assert metrics[name] == pytest.approx(100 * precision[precision > -1].mean(), abs=1e-6)
    assert 5 < metrics["AP50"] < 95  # the detections are neither perfect nor hopeless
    assert metrics.keys() <= METRICS.keys()


def coco_error_curves(path: Path, results: list[dict[str, Any]], area: int = 0) -> dict[str, Any]:
    """COCO's error analysis as its authors wrote it: one evaluation per class on relabelled ground truth. area: its number there."""
    truth = COCO(path)
    strict = reference(truth, results, "bbox", iouThrs=np.array([0.75, 0.5, 0.1]), maxDets=[100]).eval["precision"][:, :, :, area, 0]
    curves: dict[str, list[Any]] = {name: [] for name in CURVES}
    for k, category in enumerate(CATEGORIES):
        own = [each for each in results if each["category_id"] == category]
        forgiving = []
        similar = [other for other in CATEGORIES if GROUPS[NAMES[other - 1]] == GROUPS[NAMES[category - 1]]]
        for forgiven in (similar, CATEGORIES):
            relabelled = copy.deepcopy(truth)
            for annotation in relabelled.dataset["annotations"]:
                if annotation["category_id"] != category and annotation["category_id"] in forgiven:
                    annotation.update(ignore=1, iscrowd=1, category_id=category)
            relabelled.createIndex()
            found = reference(relabelled, own, "bbox", iouThrs=np.array([0.1]), maxDets=[100]).eval["precision"]
            forgiving.append(found[0, :, k, area, 0])
        if strict[0, 0, k] < 0:  # pycocotools' way to say that the class has no object of that size
            continue
        rows = [*strict[:, :, k], *forgiving, forgiving[1] > 0, np.ones(101)]
        for name, row in zip(CURVES, rows, strict=True):
            curves[name].append(row)
    return {name: np.mean(rows, axis=0) for name, rows in curves.items() if rows}


@pytest.mark.parametrize("seed", range(4))
def test_error_types_are_those_of_cocos_analysis(tmp_path: Path, seed: int) -> None:
    path = annotation_file(tmp_path, seed)
    found = detections(path, seed)
    metric = DetectionMetric(str(path))
    metric.thorough = True
    metric.dataset_meta = {"classes": NAMES}
    metrics = metric.compute_metrics(found)
    with contextlib.redirect_stdout(io.StringIO()):
        expected = coco_error_curves(path, box_results(found, CATEGORIES))
    for name in CURVES:
        np.testing.assert_allclose(metric.curves[name], expected[name], atol=1e-9)
    costs = [value for name, value in metrics.items() if name.startswith("err_")]
    assert len(costs) == 5
    assert min(costs) >= -1e-9
    assert sum(costs) + metrics["AP50"] == pytest.approx(100, abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("number", "area"), [(1, "small"), (2, "medium"), (3, "large")])
def test_error_types_by_area_are_those_of_cocos_analysis(tmp_path: Path, seed: int, number: int, area: str) -> None:
    path = annotation_file(tmp_path, seed)
    found = detections(path, seed)
    with contextlib.redirect_stdout(io.StringIO()):
        expected = coco_error_curves(path, box_results(found, CATEGORIES), number)
        truth, categories = ground_truth(str(path), NAMES)
    curves = error_curves([scene_of(truth, categories, *each[:4]) for each in found], groups_of(truth, categories), area)
    assert curves.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(curves[name], expected[name], atol=1e-9)


def crowded(rng: np.random.Generator) -> Scene:
    """Up to six objects and thirty detections of four classes, on a grid: equal boxes, equal scores, and crowds are frequent."""
    objects, found = rng.integers(0, 7), rng.integers(0, 30)

    def boxes(count: int) -> Any:
        corner = rng.integers(0, 6, (count, 2)) * 12.0
        return np.concatenate([corner, corner + rng.integers(1, 6, (count, 2)) * 12.0], 1)

    there = boxes(objects)
    areas = (there[:, 2:] - there[:, :2]).prod(1) * rng.choice([0.5, 1.0, 5.0])
    scores = np.round(rng.random(found), 1)
    return Scene(there, rng.integers(0, 4, objects), rng.random(objects) < 0.25, areas, boxes(found), rng.integers(0, 4, found), scores)


@pytest.mark.parametrize("most", [1, 500_000])
def test_all_at_once_gives_the_numbers_of_one_by_one(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """most: pairs that are looked at together."""
    monkeypatch.setattr(errors, "chunks", partial(chunks, most=most))
    groups = list("aabc")
    for seed in range(60):
        rng = np.random.default_rng([seed, 7])
        scenes = [crowded(rng) for _ in range(rng.integers(0, 6))]
        for area in ("all", "small", "medium", "large"):
            curves, expected = error_curves(scenes, groups, area), one_by_one.error_curves(scenes, groups, area)
            assert curves.keys() == expected.keys()
            for name, curve in curves.items():
                np.testing.assert_array_equal(curve, expected[name])
        np.testing.assert_equal(voc07_map(scenes, 4), one_by_one.voc07_map(scenes, 4))


def scene(found: list[tuple[list[float], int, float]], crowd: bool = False) -> Scene:
    """One object, a cat at (0, 0, 100, 100), and these detections."""
    boxes, labels, scores = zip(*found, strict=True)
    return Scene(
        boxes=np.array([[0.0, 0, 100, 100]]),
        labels=np.array([0]),
        crowd=np.array([crowd]),
        areas=np.array([10_000.0]),
        found_boxes=np.array(boxes, dtype=float),
        found_labels=np.array(labels),
        found_scores=np.array(scores),
    )


@pytest.mark.parametrize(
    ("found", "label", "blamed"),
    [
        ([0.0, 0, 100, 30], 0, "err_localisation"),  # IoU 0.3
        ([300.0, 300, 340, 340], 0, "err_missed"),  # on nothing, and the object is not found
    ],
)
def test_a_single_mistake_costs_all_of_its_kind(found: list[float], label: int, blamed: str) -> None:
    costs = error_costs(error_curves([scene([(found, label, 0.9)])], list(GROUPS.values())))
    assert costs[blamed] == pytest.approx(100)
    assert sum(costs.values()) == pytest.approx(100)


@pytest.mark.parametrize(
    ("label", "blamed"),
    [(1, "err_similar"), (2, "err_other"), (None, "err_background")],
)
def test_a_better_scored_false_positive_costs_half_of_the_ap(label: int | None, blamed: str) -> None:
    """A second image shows another thing; the best-scored cat is there, the true cat comes second: precision 1/2."""
    elsewhere = Scene(
        boxes=np.array([[0.0, 0, 50, 50]]) if label is not None else np.empty((0, 4)),
        labels=np.array([] if label is None else [label], dtype=int),
        crowd=np.zeros(0 if label is None else 1, dtype=bool),
        areas=np.array([] if label is None else [2500.0]),
        found_boxes=np.array([[0.0, 0, 50, 50]]),
        found_labels=np.array([0]),
        found_scores=np.array([0.9]),
    )
    right = scene([([0.0, 0, 100, 100], 0, 0.5)])
    curves = error_curves([elsewhere, right], list(GROUPS.values()))
    present = 1 if label is None else 2  # the other class is an object nobody found
    costs = error_costs(curves)
    assert costs[blamed] == pytest.approx(50 / present)
    assert costs["err_missed"] == pytest.approx(0 if label is None else 50)


@pytest.mark.parametrize("seed", range(4))
def test_voc_2007_map_is_that_of_mmdet(tmp_path: Path, seed: int) -> None:
    path = annotation_file(tmp_path, seed)
    rng = np.random.default_rng(seed)  # no two scores alike: mmdet's order among equals is anyone's guess
    found = [
        (image, boxes, scores + rng.uniform(0, 1e-3, len(scores)), labels, []) for image, boxes, scores, labels, _ in detections(path, seed)
    ]
    truth = COCO(path)
    annotations, results = [], []
    for image, boxes, scores, labels, _ in found:
        objects = truth.imgToAnns[image]
        corners = np.array([a["bbox"] for a in objects]).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        kinds = np.array([a["category_id"] - 1 for a in objects], dtype=int)
        difficult = np.array([a["iscrowd"] == 1 for a in objects], dtype=bool)
        annotations.append(
            {
                "bboxes": corners[~difficult],
                "labels": kinds[~difficult],
                "bboxes_ignore": corners[difficult],
                "labels_ignore": kinds[difficult],
            }
        )
        results.append([np.c_[boxes, scores][labels == k] for k in range(len(NAMES))])
    _, classes = eval_map(results, annotations, iou_thr=0.5, dataset=NAMES, logger="silent")
    # mmdet's own 11 points compare rounded recalls (0.3 < 0.1 * 3); its curves are taken here, its rounding is not.
    points = [[c["precision"][c["recall"] >= step - 1e-6].max(initial=0) for step in np.linspace(0, 1, 11)] for c in classes]
    assert evaluated(path, found)["mAP07"] == pytest.approx(100 * np.mean(points), abs=1e-4)  # mmdet's are in float32


def test_a_second_hit_is_false_and_a_difficult_object_does_not_count() -> None:
    hit = [0.0, 0, 100, 100]
    assert voc07_map([scene([(hit, 0, 0.5), (hit, 0, 0.9)])], 1) == pytest.approx(100)
    twice_first = [scene([(hit, 0, 0.9), (hit, 0, 0.8)]), scene([(hit, 0, 0.7)])]
    assert voc07_map(twice_first, 1) == pytest.approx(100 * (6 * 1 + 5 * 2 / 3) / 11)
    assert voc07_map([scene([(hit, 0, 0.9)], crowd=True), scene([(hit, 0, 0.5)])], 1) == pytest.approx(100)


def test_no_detection_at_all_scores_zero_everywhere(tmp_path: Path) -> None:
    path = annotation_file(tmp_path, 0)
    nothing = [(image, np.empty((0, 4)), np.empty(0), np.empty(0, dtype=int), []) for image in range(6)]
    metrics = evaluated(path, nothing, masks=True)
    assert metrics["err_missed"] == 100
    assert {value for name, value in metrics.items() if name != "err_missed"} == {0.0}
    assert {"AP", "APs", "mask_AP", "AP90", "mAP07"} <= metrics.keys()


def test_only_the_last_epoch_is_measured_thoroughly(tmp_path: Path) -> None:
    path = annotation_file(tmp_path, 0)
    found = detections(path, 0)
    brief, whole = evaluated(path, found, thorough=False), evaluated(path, found)
    assert brief == {name: whole[name] for name in SIZES}


def test_predicted_masks_are_collected_as_run_lengths(tmp_path: Path) -> None:
    path = annotation_file(tmp_path, 0)
    metric = DetectionMetric(str(path), masks=True)
    metric.thorough = True
    metric.dataset_meta = {"classes": NAMES}
    truth = COCO(path)
    samples = []
    for image, objects in truth.imgToAnns.items():
        clear = [a for a in objects if not a["iscrowd"]]
        boxes = torch.tensor([a["bbox"] for a in clear]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        samples.append(
            {
                "img_id": image,
                "pred_instances": {
                    "bboxes": boxes,
                    "scores": torch.full((len(clear),), 0.9),
                    "labels": torch.tensor([a["category_id"] - 1 for a in clear]),
                    "masks": torch.tensor(np.array([truth.annToMask(a) for a in clear]), dtype=torch.bool),
                },
            }
        )
    metric.process(None, samples)
    metrics = metric.evaluate(len(samples))
    assert metrics["mask_AP"] == pytest.approx(100)
    assert metrics["AP"] == pytest.approx(100)
