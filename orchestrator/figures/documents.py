"""What measurements left: the document, maps and images, read without trusting more than plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.records.schema import Trial
from orchestrator.storage.files import TrialFiles, beside

Map = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Document:
    """A finished measurement. kind, options: as planned. detector: name of the trial that it measured. reference: of this document among
    the files."""

    kind: str
    detector: str
    options: Mapping[str, Any]
    metrics: Mapping[str, float]
    content: Mapping[str, Any]
    reference: str
    files: TrialFiles

    def maps(self, file: str) -> dict[str, Map]:
        """All arrays of a .npz beside the document."""
        with np.load(self.path(file), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}

    def image(self, file: str) -> Map:
        """A .png beside the document, (H, W, 3) from 0 to 1."""
        from matplotlib.image import imread

        pixels: Map = imread(self.path(file))
        return pixels[:, :, :3] if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)

    def path(self, file: str) -> Path:
        """A file beside the document, on this machine. Raises ValueError, FileNotFoundError, StorageError."""
        found = self.files.local(beside(self.reference, file))
        if found is None:
            raise FileNotFoundError(f"{file} of a measurement of {self.detector} is gone")
        return found


def read(trial: Trial, files: TrialFiles) -> Document | None:
    """The document of a finished measurement; None for one that is not finished, or whose files are gone. Raises StorageError."""
    planned = trial.measurement
    if planned is None or not trial.state.good or not trial.checkpoint:
        return None
    path = files.local(trial.checkpoint)
    try:
        content = json.loads(path.read_text()) if path else None
    except (OSError, ValueError):
        content = None
    if content is None:
        return None
    return Document(planned["kind"], planned["detector"], planned["options"], trial.metrics or {}, content, trial.checkpoint, files)
