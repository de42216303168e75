"""Errors by area, AP and duplicates under another threshold, and costs by component agree with what the training reported."""

import json
from typing import Any

import numpy as np
import pytest

from studies.measures import AREAS
from tests.workers.measuring.conftest import STUDENT, Measure
from workers.evaluation.errors import CURVES
from workers.evaluation.matching import Scene
from workers.measuring.suppression import duplicates
from workers.training.result import TrialResult

Reference = dict[str, Any]


def test_errors_over_all_areas_are_those_of_the_training(measure: Measure, alone: TrialResult, student: Reference) -> None:
    result = measure("errors", detector=student)
    for name in ("err_localisation", "err_similar", "err_other", "err_background", "err_missed", "AP50"):
        assert result.metrics[f"{name}_all"] == pytest.approx(alone.metrics[name], abs=1e-6)
    curves = json.loads(result.document.read_text())["curves"]
    assert set(curves) == set(AREAS) - {"large"}  # no digit is that large
    assert {len(curve) for by_name in curves.values() for curve in by_name.values()} == {101}
    for area in curves:
        told = sum(value for name, value in result.metrics.items() if name.endswith(f"_{area}"))
        assert told == pytest.approx(100)
        assert tuple(curves[area]) == CURVES
    assert result.metrics["AP50_small"] != result.metrics["AP50_medium"]


def test_the_networks_own_threshold_gives_the_training_s_ap(measure: Measure, alone: TrialResult, student: Reference) -> None:
    result = measure("nms", detector=student, options={"threshold": 0.6})  # GFL's own
    assert result.metrics["AP"] == pytest.approx(alone.metrics["AP"], abs=1e-9)
    assert result.metrics["AP75"] == pytest.approx(alone.metrics["AP75"], abs=1e-9)
    assert alone.metrics["AP"] > 1


def test_a_high_threshold_leaves_more_boxes_for_one_object(measure: Measure, student: Reference, tmp_path: Any) -> None:
    usual = measure("nms", detector=student, options={"threshold": 0.6}).metrics
    folder = tmp_path / "nms"
    folder.rename(tmp_path / "before")
    loose = measure("nms", detector=student, options={"threshold": 0.95}).metrics
    assert loose["duplicates"] > usual["duplicates"] >= 1
    assert loose["detections"] >= usual["detections"]  # of a student this young, both may be all that are kept of an image
    assert loose["AP"] < usual["AP"]


def test_duplicates_count_boxes_of_the_right_class_on_found_objects() -> None:
    objects = np.array([[0.0, 0, 10, 10], [20.0, 0, 30, 10], [40.0, 0, 50, 10], [60.0, 0, 70, 10]])
    scene = Scene(
        boxes=objects,
        labels=np.array([0, 1, 0, 0]),
        crowd=np.array([False, False, False, True]),
        areas=np.full(4, 100.0),
        # three on the first object, one of another class on the second, one half off the third, one on the crowd
        found_boxes=np.array(
            [[0.0, 0, 10, 10], [0.0, 0, 10, 9], [1.0, 0, 10, 10], [20.0, 0, 30, 10], [45.1, 0, 55, 10], [60.0, 0, 70, 10]]
        ),
        found_labels=np.array([0, 0, 0, 0, 0, 0]),
        found_scores=np.linspace(0.9, 0.1, 6),
    )
    assert duplicates([scene]) == (3, 1)
    assert duplicates([scene, scene]) == (6, 2)


def test_the_components_costs_add_up_to_the_table_s(measure: Measure, alone: TrialResult, student: Reference) -> None:
    result = measure("costs", detector=student)
    parts = ("backbone", "neck", "head")
    assert sum(result.metrics[f"Params_{part}"] for part in parts) == pytest.approx(alone.metrics["Params"])
    assert sum(result.metrics[f"FLOPs_{part}"] for part in parts) == pytest.approx(alone.metrics["FLOPs"])
    assert all(result.metrics[f"{what}_{part}"] > 0 for what in ("Params", "FLOPs") for part in parts)
    document = json.loads(result.document.read_text())
    assert document["size"] == [128, 128]
    # FPN on 16, 32 and 64 channels: three 1x1 laterals, five 3x3 convolutions of 32 channels, all with bias
    assert document["components"]["neck"]["parameters"] == sum(32 * (c + 1) for c in (16, 32, 64)) + 5 * 32 * (9 * 32 + 1)
    assert STUDENT["width"] == 8
