"""One measurement, start to end: made where its folder holds no result, stored as a whole, read where it is there.

A folder holds `result.json` (written last), `document.json` and the files of the kind: maps as .npz, images as .png.
"""

from __future__ import annotations

import importlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.measurement import MeasurementSpec
from studies.measures import KINDS
from studies.trial import TrialFailure
from workers.datasets.loading import TEST_BATCH
from workers.failures import failures_named
from workers.files import file_sha256, write_atomically
from workers.measuring.setting import Measured, Setting
from workers.process import compute_threads, environment, quiet

RESULT, DOCUMENT = "result.json", "document.json"


@dataclass(frozen=True)
class MeasurementResult:
    """A finished measurement. files: sha256 (hex) by name of all in its folder but the result itself, the document among them."""

    metrics: dict[str, float]
    document: Path
    files: dict[str, str]
    seconds: float
    environment: dict[str, str]


def run_measurement(spec: MeasurementSpec, folder: Path, data: Path) -> MeasurementResult:
    """Makes a measurement in its own `folder`, or reads it there. data: where prepared datasets are. Raises TrialFailure."""
    found = finished(folder)
    if found:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with failures_named(TEST_BATCH), compute_threads(spec.threads), quiet():
        measured: Measured = importlib.import_module(KINDS[spec.kind].module).measure(Setting(spec, folder, data))
    _refuse_nan(measured.metrics)
    write_atomically(json.dumps(measured.document, allow_nan=False).encode(), folder / DOCUMENT)
    result = {
        "metrics": measured.metrics,
        "files": {name: file_sha256(folder / name) for name in (DOCUMENT, *measured.files)},
        "seconds": time.perf_counter() - began,
        "environment": environment(spec.gpus, spec.threads),
    }
    write_atomically(json.dumps(result, indent=1).encode(), folder / RESULT)
    stored = finished(folder)
    assert stored is not None
    return stored


def finished(folder: Path) -> MeasurementResult | None:
    """The result in `folder`, if it is complete and its files are those that were written."""
    try:
        stored: dict[str, Any] = json.loads((folder / RESULT).read_text())
        if any(file_sha256(folder / name) != digest for name, digest in stored["files"].items()):
            return None
        return MeasurementResult(document=folder / DOCUMENT, **stored)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refuse_nan(metrics: dict[str, float]) -> None:
    bad = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    if bad:
        raise TrialFailure("nan", f"{', '.join(bad)} became NaN or infinite; the checkpoint holds such weights, perhaps")
