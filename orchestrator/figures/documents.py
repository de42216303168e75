"""What measurements left in their folders: the document, maps and images, read without trusting more than plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.records.schema import Trial

Map = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Document:
    """A finished measurement. kind, options: as planned. detector: name of the trial that it measured."""

    kind: str
    detector: str
    options: Mapping[str, Any]
    metrics: Mapping[str, float]
    content: Mapping[str, Any]
    folder: Path

    def maps(self, file: str) -> dict[str, Map]:
        """All arrays of a .npz beside the document."""
        with np.load(self._beside(file), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}

    def image(self, file: str) -> Map:
        """A .png beside the document, (H, W, 3) from 0 to 1."""
        from matplotlib.image import imread

        pixels: Map = imread(self._beside(file))
        return pixels[:, :, :3] if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)

    def _beside(self, file: str) -> Path:
        if Path(file).name != file:
            raise ValueError(f"{file!r} is no file of the measurement")
        return self.folder / file


def read(trial: Trial) -> Document | None:
    """The document of a finished measurement; None for one that is not finished, or whose files are gone."""
    planned = trial.measurement
    if planned is None or not trial.state.good or not trial.checkpoint:
        return None
    path = Path(trial.checkpoint)
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return Document(planned["kind"], planned["detector"], planned["options"], trial.metrics or {}, content, path.parent)
