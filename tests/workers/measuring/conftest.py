"""Three small trained detectors to measure: a teacher, a student that trained alone, and one that four distillers taught.

Made once a test process: it runs files of other packages between two of this one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studies.measurement import MeasurementSpec
from studies.spec import MethodUse
from studies.trial import TrialSpec
from workers.measuring.run import MeasurementResult, run_measurement
from workers.training.result import TrialResult
from workers.training.trial import run_trial

STUDENT = {"detector": "gfl", "backbone": "resnet18", "width": 8}
TEACHER = {"detector": "gfl", "backbone": "resnet34", "width": 8}
METHODS = {"fgfi": {}, "defeat": {"variant": "pdf"}, "pad": {"variant": "pdf"}, "pdf_distil": {}}
LONG = {"epochs": 1, "batch_size": 8, "lr": 0.02, "max_iterations": 100}
SHORT = {"epochs": 1, "batch_size": 4, "lr": 0.01, "max_iterations": 6}
SEEN = 300  # validation images that LONG looks at: all

Measure = Callable[..., MeasurementResult]


def uses() -> list[MethodUse]:
    return [MethodUse(id=name, options=options) for name, options in METHODS.items()]


def trained(folder: Path, data: Path, **changes: Any) -> TrialResult:
    base = {"dataset": "digits", "scale": "smoke", "network": STUDENT, "schedule": SHORT, "seed": 0}
    return run_trial(TrialSpec.model_validate(base | changes), folder, data, lambda epoch: None)


def reference(result: TrialResult, network: dict[str, Any]) -> dict[str, Any]:
    return {"network": network, "checkpoint": str(result.checkpoint), "sha256": result.checkpoint_sha256}


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory, data: Path) -> TrialResult:
    return trained(tmp_path_factory.mktemp("alone"), data, schedule=LONG)


@pytest.fixture(scope="session")
def student(alone: TrialResult) -> dict[str, Any]:
    return reference(alone, STUDENT)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory, data: Path) -> dict[str, Any]:
    return reference(trained(tmp_path_factory.mktemp("teacher"), data, network=TEACHER), TEACHER)


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, data: Path, teacher: dict[str, Any]) -> dict[str, Any]:
    return reference(trained(tmp_path_factory.mktemp("taught"), data, teacher=teacher, distillers=uses()), STUDENT)


@pytest.fixture
def measure(tmp_path: Path, data: Path) -> Measure:
    """Makes a measurement of a kind in a folder of its own."""

    def made(kind: str, **fields: Any) -> MeasurementResult:
        spec = MeasurementSpec.model_validate({"kind": kind, "dataset": "digits", "scale": "smoke"} | fields)
        return run_measurement(spec, tmp_path / kind, data)

    return made
