"""What a finished trial leaves: its detector, and a file with its metrics, digest and surroundings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from studies.catalog import METRICS
from workers.files import file_sha256, write_atomically, write_checkpoint
from workers.training.progress import BEST, EpochReport

SPEC, EXPORT, RESULT = "trial.json", "model.pth", "result.json"


@dataclass(frozen=True)
class TrialResult:
    """A finished trial. `checkpoint` is the plain detector after the last epoch, `best_checkpoint` that of the best AP."""

    metrics: dict[str, float]
    checkpoint: Path
    checkpoint_sha256: str
    best_checkpoint: Path
    seconds: float
    environment: dict[str, str]


def write_result(folder: Path, detector: dict[str, Tensor], history: list[EpochReport], environment: dict[str, str]) -> TrialResult:
    """Writes the plain detector's state and what is to be known of it."""
    write_checkpoint({"state_dict": detector}, folder / EXPORT)
    result = {
        "metrics": {k: v for k, v in history[-1].metrics.items() if k in METRICS},
        "checkpoint_sha256": file_sha256(folder / EXPORT),
        "seconds": sum(each.metrics["epoch_seconds"] for each in history),
        "environment": environment,
    }
    write_atomically(json.dumps(result, indent=1).encode(), folder / RESULT)
    stored = finished(folder)
    assert stored is not None
    return stored


def finished(folder: Path) -> TrialResult | None:
    """The result in `folder`, if the trial is complete and its checkpoint intact."""
    try:
        stored = json.loads((folder / RESULT).read_text())
        if file_sha256(folder / EXPORT) != stored["checkpoint_sha256"]:
            return None
    except (OSError, ValueError, KeyError):
        return None
    return TrialResult(checkpoint=folder / EXPORT, best_checkpoint=folder / BEST, **stored)
