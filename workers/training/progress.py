"""How far a trial is: what it tells on the way, the epochs behind it, and the file that it goes on from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studies.trial import CHECKPOINT_NOW, LEAVE_NOW
from workers.files import write_checkpoint

RESUME, BEST = "last.pt", "best.pth"


@dataclass(frozen=True)
class EpochReport:
    """What a trial tells after each epoch. `epoch` counts from 1.

    metrics: AP... in percent where the epoch is evaluated, after the last one all that applies of `studies.catalog.METRICS`;
    `skipped_images` and `skipped_annotations` where the dataset has broken ones; `loss` and `loss_*` as means over the epoch's steps;
    `images_per_second` of training; `epoch_seconds` with evaluation; `lr` at the epoch's end. Equal trials on a CPU give equal
    metrics but for the times: `images_per_second`, `epoch_seconds` and `FPS`.
    """

    epoch: int
    epochs: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class StepReport:
    """A sign of life inside an epoch: `step` of the `steps` batches of epoch `epoch` are done, all counted from 1; told again while the
    epoch is evaluated.

    metrics: `loss` and `loss_*` as means over the epoch so far, `lr`, `images_per_second`, `data_share` (of the time, spent waiting
    for images) and `memory` (the most so far, in GiB).
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    metrics: dict[str, float]


class Left(Exception):
    """The training was asked to make room, and has written what to go on from."""


class Progress:
    """The epochs a trial has behind it, and the state to go on from: one file, replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        """Reads what an earlier process left in the trial's folder. state: of it, None where nothing is to be gone on from."""
        self.folder = folder
        (folder / LEAVE_NOW).unlink(missing_ok=True)  # whoever asked an earlier process, asks again
        path = folder / RESUME
        self.state: dict[str, Any] | None = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
        self.history = [EpochReport(**entry) for entry in self.state["history"]] if self.state else []

    def taken(self) -> dict[str, Any] | None:
        """The state, which is then forgotten: its tensors take as much memory as the network and its optimizer."""
        state, self.state = self.state, None
        return state

    def add(self, done: EpochReport, exported: Callable[[], dict[str, Tensor]]) -> None:
        """Notes an epoch, and writes the exported detector where it is the best so far."""
        best = max((each.metrics.get("AP", -1.0) for each in self.history), default=-1.0)
        self.history.append(done)
        reached = done.metrics.get("AP", 0.0 if done.epoch == done.epochs else -1.0)  # without any object there is no AP
        if reached > best:
            write_checkpoint({"state_dict": exported()}, self.folder / BEST)

    @property
    def asked(self) -> bool:
        """Whether somebody who is about to stop this process, or wants its devices, waits for a checkpoint."""
        return (self.folder / CHECKPOINT_NOW).exists() or (self.folder / LEAVE_NOW).exists()

    def save(self, state: dict[str, Any]) -> None:
        """Writes what to go on from. Raises Left where the process was asked to make room."""
        write_checkpoint({**state, "history": [asdict(each) for each in self.history]}, self.folder / RESUME)
        (self.folder / CHECKPOINT_NOW).unlink(missing_ok=True)
        if (self.folder / LEAVE_NOW).exists():
            (self.folder / LEAVE_NOW).unlink(missing_ok=True)
            raise Left
