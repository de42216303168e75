"""The way out for one network of each family: trained here, exported, evaluated by plain mmdet's own test tool and by onnxruntime.

    python -m benchmarks.export_families > docs/results/export.md      # some ten minutes of one core

Each learns the scenes that it is then measured on, so that its AP says something after a minute. The tool is a program of its own, and says
at its end which modules of Retort it has loaded.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmdet
import numpy as np

from studies.code import code_version
from studies.trial import TrialSpec
from workers.datasets import check
from workers.datasets.digits import CLASSES, scans_of_splits, write_split
from workers.evaluation.precision import DetectionMetric
from workers.export.mmdet_files import write_mmdet
from workers.export.onnx_file import OPSET, write_onnx
from workers.export.trained import ExportError, Trained, trained
from workers.training.trial import run_trial

# detector, backbone, form: one network of each family, and of the forms whose parts are ours.
FAMILIES: list[tuple[str, str, str | None]] = [
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
SCENES, BATCH, EPOCHS = 24, 4, 25
DATASET = f"""title: Scenes
root: ../scenes
classes: {json.dumps([str(digit) for digit in range(CLASSES)])}
train: {{annotations: val.json, images: val}}
val: {{annotations: val.json, images: val}}
mirror: false
"""
TOOL = Path(mmdet.__file__).parent / ".mim" / "tools" / "test.py"
RUN = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("RETORT", sorted(name for name in sys.modules if name.split(".")[0] in ("workers", "studies", "orchestrator", "api")))
"""


@dataclass(frozen=True)
class Told:
    """What mmdet's tool says of exported files: its metrics, its predictions, and the modules of Retort that it needed."""

    metrics: dict[str, float]
    found: list[dict[str, Any]]
    loaded: list[str]

    @property
    def detections(self) -> int:
        return sum(len(each["pred_instances"]["scores"]) for each in self.found)

    def ap(self, done: Trained) -> float:
        """The AP of its predictions at full precision; it prints three digits."""
        metric = DetectionMetric(str(done.data / done.spec.dataset / "val.json"))
        metric.dataset_meta = {"classes": done.manifest["classes"]}
        metric.process(None, self.found)
        return metric.compute_metrics(metric.results).get("AP", 0.0)


def by_mmdet(folder: Path) -> Told:
    """mmdet's tool on the files in `folder`, in a process of its own."""
    command = [sys.executable, "-c", RUN, str(TOOL), "config.py", "model.pth", "--out", "found.pkl", "--work-dir", "work"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"mmdet's tool failed on {folder}:\n{done.stderr[-3000:]}")
    (logged,) = (folder / "work").glob("*/*.json")
    return Told(
        json.loads(logged.read_text().splitlines()[-1]),
        pickle.loads((folder / "found.pkl").read_bytes()),
        json.loads(done.stdout.split("RETORT ")[-1].strip().replace("'", '"')),
    )


def prepare(home: Path) -> None:
    """A dataset of few scenes, the same ones to learn from and to be measured on."""
    (home / "scenes").mkdir()
    (home / "datasets").mkdir()
    scans, labels, pools = scans_of_splits()
    write_split(home / "scenes", "val", SCENES, scans, labels, pools["val"], np.random.default_rng(0))
    (home / "datasets" / "scenes.yaml").write_text(DATASET)
    check("scenes", home / "data")


def train(home: Path, detector: str, backbone: str, form: str | None, epochs: int) -> Trained:
    """A network that has learnt the scenes."""
    network = {"detector": detector, "backbone": backbone, "form": form, "width": 8}
    schedule = {"epochs": epochs, "batch_size": BATCH, "lr": 4e-3, "max_iterations": SCENES, "val_interval": epochs}
    given = {"dataset": "scenes", "scale": "smoke", "network": network, "schedule": schedule, "seed": 0}
    folder = home / "trials" / f"{detector}-{form or backbone}"
    run_trial(TrialSpec.model_validate(given), folder, home / "data", lambda epoch: None)
    return trained(folder, home / "data")


def row(home: Path, detector: str, backbone: str, form: str | None, epochs: int) -> str:
    """A network's line of the page."""
    done = train(home, detector, backbone, form, epochs)
    folder = home / "export" / f"{detector}-{form or backbone}"
    imports = write_mmdet(done, folder)
    told = by_mmdet(folder)
    ap, theirs, printed = done.result.metrics["AP"], told.ap(done), told.metrics["coco/bbox_mAP"]
    try:
        onnx = f"{write_onnx(done, folder):.0e}"
    except ExportError:
        onnx = "not written"
    masks = f"{done.result.metrics['mask_AP']:.1f}, {told.metrics['coco/segm_mAP']:.3f}" if "coco/segm_mAP" in told.metrics else ""
    title = f"{detector} {backbone}{f' ({form})' if form else ''}"
    needs = "Retort beside it" if told.loaded else "nothing of Retort"
    assert bool(imports) == bool(told.loaded), title
    return f"| {title} | {ap:.4f} | {theirs:.4f} | {printed:.3f} | {masks} | {told.detections} | {needs} | {onnx} |"


def main() -> None:
    """The command."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.export_families", description="Exports every family and evaluates it outside."
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"of {SCENES // BATCH} steps")
    parser.add_argument("--only", nargs="*", help="detectors")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as home, redirect_stdout(sys.stderr):
        prepare(Path(home))
        for family in FAMILIES:
            if not given.only or family[0] in given.only:
                rows.append(row(Path(home), *family, given.epochs))
                print(rows[-1], flush=True)
    print(page(rows, given.epochs))


ABOUT = """# Out and back: every family, exported

One network of each family and of the forms whose parts are ours, narrow, after {steps} steps on the {scenes} scenes that it is measured on;
exported by `retort export`'s code, and evaluated by plain mmdet's own test tool in a process of its own. Its AP at full precision is that
of the predictions which the tool writes, as it prints three digits.

Command: `python -m benchmarks.export_families`; code version `{code}`.

| network | AP when trained | AP by mmdet's tool | as it prints | masks: trained, tool | detections | the tool loads | ONNX off by |
|---|---|---|---|---|---|---|---|
{rows}

ONNX (opset {opset}): the largest difference of the dense head's outputs in onnxruntime, on four images, as a share of the largest output.
Detectors with a RoI head are not written as ONNX: they suppress and pool proposals inside the network. Held by
`tests/workers/export/test_export.py` for every line (all but three are marked slow), with random weights."""


def page(rows: list[str], epochs: int) -> str:
    """docs/results/export.md."""
    steps, code = epochs * SCENES // BATCH, code_version()[:16]
    return ABOUT.format(steps=steps, scenes=SCENES, code=code, opset=OPSET, rows="\n".join(rows))


if __name__ == "__main__":
    main()
