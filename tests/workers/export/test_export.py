"""What `retort export` writes: plain mmdet's own test tool finds the same boxes with it, and onnxruntime the same outputs."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import mmdet
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from api.command.cli import app
from studies.trial import TrialSpec
from tests.workers.copies import coco
from workers.datasets import check
from workers.evaluation.precision import DetectionMetric
from workers.export.mmdet_files import write_mmdet
from workers.export.onnx_file import CLOSE, GRAPH, OPSET, DenseOutputs, validation_inputs, write_onnx
from workers.export.trained import ExportError, Trained, find_folder, trained
from workers.training.trial import run_trial

TOOL = Path(mmdet.__file__).parent / ".mim" / "tools" / "test.py"
# mmdet's test tool as a program of its own; at its end it says which modules of Retort it has loaded.
RUN = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("RETORT", sorted(name for name in sys.modules if name.split(".")[0] in ("workers", "studies", "orchestrator", "api")))
"""
# detector, backbone, form, teaches whom: one network of each family.
FAMILIES = [
    ("faster_rcnn", "resnet18", None),
    ("cascade_rcnn", "resnet18", None),
    ("dynamic_rcnn", "resnet18", None),
    ("grid_rcnn", "resnet18", None),
    ("mask_rcnn", "resnet18", None),
    ("cascade_mask_rcnn", "resnet18", None),
    ("retinanet", "resnet18", None),
    ("retinanet", "resnet18", "pdf_fpn"),
    ("fsaf", "resnet18", None),
    ("fcos", "resnet18", "centre_sampling"),
    ("fcos", "resnet18", "distribution"),
    ("reppoints", "resnet18", None),
    ("atss", "regnetx_800mf", None),
    ("gfl", "resnet18", None),
    ("yolov3", "darknet53", None),
    ("ssd", "vgg16", None),
]
QUICK = {("gfl", None), ("mask_rcnn", None), ("fcos", "distribution")}
each_family = pytest.mark.parametrize(
    ("detector", "backbone", "form"),
    [pytest.param(*family, marks=() if (family[0], family[2]) in QUICK else pytest.mark.slow) for family in FAMILIES],
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a small copy of COCO: 12 + 6 images."""
    home = tmp_path_factory.mktemp("home")
    coco(home / "data" / "coco", {"train": 12, "val": 6})
    check("coco", home / "data")
    return home


def trial_of(home: Path, detector: str, backbone: str, form: str | None) -> Trained:
    """A trial of a few steps, with heads that have moved far enough to find something."""
    network = {"detector": detector, "backbone": backbone, "width": 8, "form": form}
    schedule = {"epochs": 4, "batch_size": 4, "lr": 4e-3, "max_iterations": 3, "val_interval": 4}
    spec = TrialSpec.model_validate({"dataset": "coco", "scale": "smoke", "network": network, "schedule": schedule, "seed": 0})
    folder = home / "trials" / f"{detector}{form or ''}{backbone}".replace("_", "").replace(".", "")
    run_trial(spec, folder, home / "data", lambda epoch: None)
    return trained(folder, home / "data")


def tested(folder: Path) -> tuple[dict[str, float], list[dict[str, Any]], list[str]]:
    """What mmdet's tool says of the files in `folder`: its metrics, its predictions, and the modules of Retort that it needed."""
    command = [sys.executable, "-c", RUN, str(TOOL), "config.py", "model.pth", "--out", "found.pkl", "--work-dir", "work"]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    loaded = done.stdout.split("RETORT ")[-1].strip()
    (logged,) = (folder / "work").glob("*/*.json")
    metrics = json.loads(logged.read_text().splitlines()[-1])
    return metrics, pickle.loads((folder / "found.pkl").read_bytes()), json.loads(loaded.replace("'", '"'))


def ap_of(found: list[dict[str, Any]], trained: Trained) -> float:
    """The AP of predictions at full precision; mmdet prints three digits."""
    metric = DetectionMetric(str(trained.data / "coco" / "val.json"))
    metric.dataset_meta = {"classes": trained.manifest["classes"]}
    metric.process(None, found)
    return metric.compute_metrics(metric.results).get("AP", 0.0)


@each_family
def test_plain_mmdet_finds_the_same(home: Path, tmp_path: Path, detector: str, backbone: str, form: str | None) -> None:
    done = trial_of(home, detector, backbone, form)
    imports = write_mmdet(done, tmp_path)
    metrics, found, loaded = tested(tmp_path)
    assert {name.split(".")[0] for name in imports} == (
        {"workers"} if form in ("distribution", "pdf_fpn") or detector in ("yolov3", "ssd") else set()
    )
    if not imports:
        assert loaded == []
    assert sum(len(each["pred_instances"]["scores"]) for each in found) > 0
    assert ap_of(found, done) == pytest.approx(done.result.metrics["AP"], abs=1e-3)
    assert metrics["coco/bbox_mAP"] * 100 == pytest.approx(done.result.metrics["AP"], abs=0.051)
    if "mask" in detector:
        assert metrics["coco/segm_mAP"] * 100 == pytest.approx(done.result.metrics["mask_AP"], abs=0.051)


@each_family
def test_onnxruntime_gives_the_heads_outputs(home: Path, tmp_path: Path, detector: str, backbone: str, form: str | None) -> None:
    done = trial_of(home, detector, backbone, form)
    if "rcnn" in detector:
        with pytest.raises(ExportError, match="is not exported as ONNX: it suppresses proposals"):
            write_onnx(done, tmp_path)
        assert not (tmp_path / GRAPH).exists()
        return
    assert write_onnx(done, tmp_path) < CLOSE
    graph = onnx.load(str(tmp_path / GRAPH))
    assert [each.version for each in graph.opset_import if each.domain == ""] == [OPSET]
    told = {each.key: each.value for each in graph.metadata_props}
    assert json.loads(told["classes"]) == done.manifest["classes"]
    assert len(json.loads(told["input"])["mean"]) == 3
    # And in batches, through mmdet's own suppression: the same boxes.
    model: Any = done.detector()
    pixels = torch.cat(list(validation_inputs(done, model, 2)))
    session = onnxruntime.InferenceSession(str(tmp_path / GRAPH), providers=["CPUExecutionProvider"])
    outputs = [torch.from_numpy(each) for each in session.run(None, {"images": pixels.numpy()})]
    with torch.no_grad():
        expected = DenseOutputs(model)(pixels)
    for ours, theirs in zip(outputs, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_boxes_after_suppression_are_the_networks(home: Path, tmp_path: Path) -> None:
    done = trial_of(home, "gfl", "resnet18", None)
    write_onnx(done, tmp_path)
    model: Any = done.detector()
    session = onnxruntime.InferenceSession(str(tmp_path / GRAPH), providers=["CPUExecutionProvider"])
    count = 0
    for pixels in validation_inputs(done, model, 6):
        flat = [torch.from_numpy(each) for each in session.run(None, {"images": pixels.numpy()})]
        levels = len(flat) // 2
        metas = [{"img_shape": tuple(pixels.shape[2:]), "scale_factor": (1.0, 1.0)}]
        with torch.no_grad():
            ours = model.bbox_head.predict_by_feat(flat[:levels], flat[levels:], batch_img_metas=metas)[0]
            theirs = model.bbox_head.predict_by_feat(*model.bbox_head(model.extract_feat(pixels)), batch_img_metas=metas)[0]
        count += len(theirs)
        np.testing.assert_allclose(ours.bboxes, theirs.bboxes, atol=1e-2)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    assert count > 0


def test_the_command_writes_both_and_says_what_it_found(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(home))
    trial_of(home, "gfl", "resnet18", None)
    told = CliRunner().invoke(app, ["export", "gflresnet", "--to", str(tmp_path / "out"), "--onnx"])
    assert told.exit_code == 0, told.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.py", "model.onnx", "model.pth"]
    assert "opset 17; in onnxruntime its outputs are at most" in told.output
    unknown = CliRunner().invoke(app, ["export", "nosuch"])
    assert unknown.exit_code == 1
    assert "'nosuch' names no trial: no trial's key begins so" in unknown.output


def test_what_is_no_finished_trial_is_told(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="holds no trial"):
        trained(tmp_path, home / "data")
    done = trial_of(home, "gfl", "resnet18", None)
    (tmp_path / "trial.json").write_text(done.spec.model_dump_json())
    with pytest.raises(ExportError, match="is not finished"):
        trained(find_folder(tmp_path, str(tmp_path)), home / "data")
    (tmp_path / "trial.json").write_text(done.spec.model_dump_json().replace('"gfl"', '"gone"'))
    with pytest.raises(ExportError, match="names what this Retort does not know"):
        trained(tmp_path, home / "data")
