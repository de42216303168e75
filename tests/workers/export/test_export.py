"""What `retort export` writes: plain mmdet's own test tool finds the same boxes with it, and onnxruntime the same outputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from api.command.cli import app
from benchmarks.catalogue_steps import opinionated
from benchmarks.export_families import FAMILIES, by_mmdet
from studies.spec import Network
from studies.trial import TrialSpec
from tests.workers.copies import coco
from workers.datasets import check
from workers.export.mmdet_files import write_mmdet
from workers.export.onnx_file import CLOSE, GRAPH, OPSET, DenseOutputs, validation_inputs, write_onnx
from workers.export.trained import ExportError, Trained, find_folder, trained
from workers.training.trial import run_trial
from workers.weights.store import Store

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
    """A finished trial of a network that says something: weights of one's own, evaluated."""
    network = {"detector": detector, "backbone": backbone, "width": 8, "form": form}
    name = f"{detector}{form or ''}{backbone}".replace("_", "").replace(".", "")
    folder, store = home / "trials" / name, Store(home / "weights")
    if not (folder / "result.json").exists():
        torch.manual_seed(0)
        state = opinionated(Network.model_validate(network), 2).state_dict()
        surer = {name: torch.where(tensor < -3, tensor + 4, tensor) if name.endswith("bias") else tensor for name, tensor in state.items()}
        torch.save({"state_dict": surer}, home / "made.pth")  # class scores begin at 0.01, and what is below 0.05 is no detection
        store.import_file(f"made/{name}", home / "made.pth")
        given = {"dataset": "coco", "scale": "smoke", "network": network, "schedule": {}, "seed": 0, "weights": f"made/{name}"}
        run_trial(TrialSpec.model_validate(given), folder, home / "data", lambda epoch: None)
    return trained(folder, home / "data")


@each_family
def test_plain_mmdet_finds_the_same(home: Path, tmp_path: Path, detector: str, backbone: str, form: str | None) -> None:
    done = trial_of(home, detector, backbone, form)
    imports = write_mmdet(done, tmp_path)
    told = by_mmdet(tmp_path)
    assert {name.split(".")[0] for name in imports} == (
        {"workers"} if form in ("distribution", "pdf_fpn") or detector in ("yolov3", "ssd") else set()
    )
    if not imports:
        assert told.loaded == []
    assert told.detections > 0
    assert told.ap(done) == pytest.approx(done.result.metrics["AP"], abs=1e-3)
    assert told.metrics["coco/bbox_mAP"] * 100 == pytest.approx(done.result.metrics["AP"], abs=0.051)
    if "mask" in detector:
        assert told.metrics["coco/segm_mAP"] * 100 == pytest.approx(done.result.metrics["mask_AP"], abs=0.051)


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
