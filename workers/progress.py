"""The epochs of a trial: what is reported after each, the state to continue from, and the result at the end."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor, nn

from studies.trial import TrialSpec
from workers.averaging import WeightAverage
from workers.files import file_sha256, write_checkpoint

RESUME, EXPORT, BEST, RESULT = "last.pt", "model.pth", "best.pth", "result.json"


@dataclass(frozen=True)
class EpochReport:
    """What a trial tells after each epoch. `epoch` counts from 1.

    metrics: AP... in percent, after the last epoch all that applies of `studies.catalog.METRICS`; `skipped_images` and
    `skipped_annotations` where the dataset has broken ones; `loss` and `loss_*` as means over the epoch's steps;
    `images_per_second` of training; `epoch_seconds` with evaluation; `lr` at the epoch's end. Equal trials on a CPU give equal
    metrics but for the times: `images_per_second`, `epoch_seconds` and `FPS`.
    """

    epoch: int
    epochs: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class TrialResult:
    """A finished trial. `checkpoint` is the plain detector after the last epoch, `best_checkpoint` that of the best AP."""

    metrics: dict[str, float]
    checkpoint: Path
    checkpoint_sha256: str
    best_checkpoint: Path
    seconds: float
    environment: dict[str, str]


class Progress:
    """The epochs a trial has behind it, and the state to continue from. One file, replaced as a whole."""

    def __init__(self, state: dict[str, Any] | None) -> None:
        self.state = state
        self.history = [EpochReport(**entry) for entry in state["history"]] if state else []

    @classmethod
    def load(cls, folder: Path) -> Progress:
        path = folder / RESUME
        return cls(torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None)

    def restore(self, runner: Runner, average: WeightAverage | None) -> None:
        """Puts weights, their average, optimizer, schedulers and counters back into a runner that is about to train."""
        assert self.state is not None
        runner.model.load_state_dict(self.state["model"])
        if average:
            average.load_state_dict(self.state["average"])
        runner.optim_wrapper.load_state_dict(self.state["optimizer"])
        for scheduler, saved in zip(runner.param_schedulers, self.state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        runner.train_loop._epoch = self.state["epoch"]
        runner.train_loop._iter = self.state["iteration"]
        self.state = None  # free the memory

    def add(self, done: EpochReport, model: Any, spec: TrialSpec, folder: Path) -> None:
        """Notes an epoch, and writes the exported detector where it is the best so far."""
        self.history.append(done)
        best = max((each.metrics.get("AP", 0.0) for each in self.history[:-1]), default=-1.0)
        if done.metrics.get("AP", 0.0) > best:
            write_checkpoint({"state_dict": exported(model, spec)}, folder / BEST)

    def save(self, runner: Runner, average: WeightAverage | None, folder: Path) -> None:
        """Writes the state after an epoch, to continue from."""
        state = {
            "model": runner.model.state_dict(),
            "average": average.state_dict() if average else None,
            "optimizer": runner.optim_wrapper.state_dict(),
            "schedulers": [_plain(scheduler.state_dict()) for scheduler in runner.param_schedulers],
            "epoch": runner.epoch,
            "iteration": runner.iter,
            "history": [asdict(each) for each in self.history],
        }
        write_checkpoint(state, folder / RESUME)


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's state without what cannot be loaded safely (it is rebuilt from the schedule)."""
    return {k: v for k, v in state.items() if isinstance(v, (int, float, str, bool, list, tuple, type(None)))}


def exported(model: Any, spec: TrialSpec) -> dict[str, Tensor]:
    """The plain detector's state, without adapters or teacher."""
    return {name: tensor.detach().cpu() for name, tensor in detector_of(model, spec).state_dict().items()}


def detector_of(model: Any, spec: TrialSpec) -> nn.Module:
    """The plain detector inside the model that trains."""
    detector: nn.Module = model.student if spec.distillers else model
    return detector


def learns_masks(detector: Any) -> bool:
    return bool(getattr(getattr(detector, "roi_head", None), "with_mask", False))


def finished(folder: Path) -> TrialResult | None:
    """The result in `folder`, if the trial is complete and its checkpoint intact."""
    try:
        stored = json.loads((folder / RESULT).read_text())
        if file_sha256(folder / EXPORT) != stored["checkpoint_sha256"]:
            return None
    except (OSError, ValueError, KeyError):
        return None
    return TrialResult(checkpoint=folder / EXPORT, best_checkpoint=folder / BEST, **stored)
