"""A measurement is made once, read afterwards, made again where its files are not what was written, and fails with a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from studies.measurement import MeasurementSpec
from studies.trial import TrialFailure
from tests.workers.measuring.conftest import Measure
from workers.measuring.run import DOCUMENT, RESULT, finished, run_measurement

Reference = dict[str, Any]


def spec(student: Reference, **fields: Any) -> MeasurementSpec:
    base = {"kind": "detections", "dataset": "digits", "scale": "smoke", "detector": student, "options": {"images": [0, 2]}}
    return MeasurementSpec.model_validate(base | fields)


def test_it_is_made_once_and_read_afterwards(tmp_path: Path, data: Path, student: Reference) -> None:
    made = run_measurement(spec(student), tmp_path / "m", data)
    assert sorted(made.files) == [DOCUMENT, "image-0.png", "image-2.png"]
    written = (tmp_path / "m" / RESULT).stat().st_mtime_ns
    gone = student | {"checkpoint": "/nowhere/model.pth"}  # nothing of the detector is opened again
    assert run_measurement(spec(gone), tmp_path / "m", data) == made
    assert (tmp_path / "m" / RESULT).stat().st_mtime_ns == written


def test_a_file_that_changed_is_made_again(tmp_path: Path, data: Path, student: Reference) -> None:
    made = run_measurement(spec(student), tmp_path / "m", data)
    (tmp_path / "m" / "image-2.png").write_bytes(b"half")
    assert finished(tmp_path / "m") is None
    assert run_measurement(spec(student), tmp_path / "m", data).files == made.files


def test_what_stops_on_the_way_leaves_no_result(tmp_path: Path, data: Path, student: Reference) -> None:
    with pytest.raises(TrialFailure, match="images 0 to 499, there is no 500"):
        run_measurement(spec(student, options={"images": [0, 500]}), tmp_path / "m", data)
    assert not (tmp_path / "m" / RESULT).exists()


@pytest.mark.parametrize(
    ("changed", "kind", "sentence"),
    [
        ({"sha256": "0" * 64}, "user", "the detector's checkpoint is not the one that was planned"),
        ({"checkpoint": "/nowhere/model.pth"}, "user", "the detector's checkpoint is missing"),
        ({"network": {"detector": "fcos", "backbone": "resnet18", "width": 8}}, "user", "of another network"),
    ],
)
def test_a_wrong_checkpoint_is_refused(
    tmp_path: Path, data: Path, student: Reference, changed: dict[str, Any], kind: str, sentence: str
) -> None:
    with pytest.raises(TrialFailure, match=sentence) as failed:
        run_measurement(spec(student | changed), tmp_path / "m", data)
    assert failed.value.kind == kind


def test_a_dataset_that_is_not_there_is_a_failure_of_the_data(tmp_path: Path, student: Reference) -> None:
    with pytest.raises(TrialFailure, match="not prepared") as failed:
        run_measurement(spec(student), tmp_path / "m", tmp_path / "empty")
    assert failed.value.kind == "data"


def test_detections_are_boxes_in_the_image_best_first(measure: Measure, student: Reference, data: Path) -> None:
    result = measure("detections", detector=student, options={"images": [0, 1, 2], "score": 0.1})
    document = json.loads(result.document.read_text())
    truth = json.loads((data / "digits" / "val.json").read_text())
    for position, image in enumerate(document["images"]):
        assert image["id"] == truth["images"][position]["id"]
        assert len(image["objects"]) == sum(a["image_id"] == image["id"] for a in truth["annotations"]) > 0
        scores = [each["score"] for each in image["detections"]]
        assert scores == sorted(scores, reverse=True)
        assert all(score >= 0.1 for score in scores)
        for each in image["detections"] + image["objects"]:
            x0, y0, x1, y1 = each["box"]
            assert 0 <= x0 <= x1 <= image["width"] + 0.01
            assert 0 <= y0 <= y1 <= image["height"] + 0.01
            assert 0 <= each["label"] < 10
    assert result.metrics["boxes"] == sum(len(image["detections"]) for image in document["images"]) / 3 > 1


def test_higher_suppression_thresholds_leave_more_boxes_to_look_at(
    measure: Measure, tmp_path: Path, data: Path, student: Reference
) -> None:
    usual = measure("detections", detector=student, options={"score": 0.2})
    again = run_measurement(spec(student, options={"score": 0.2, "threshold": 0.95}), tmp_path / "other", data)
    assert 100 > again.metrics["boxes"] > 1.3 * usual.metrics["boxes"]
