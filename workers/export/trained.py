"""A finished trial read back from its folder: what was trained, on what, and the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from studies.recipes import RECIPES, Recipe
from studies.trial import TrialSpec
from workers.datasets.manifest import read_manifest
from workers.detectors import build
from workers.training.result import SPEC, TrialResult, finished


class ExportError(ValueError):
    """What cannot be exported, with the reason in one sentence."""


@dataclass(frozen=True)
class Trained:
    """A finished trial. manifest: of its dataset. data: where the datasets of this machine are."""

    spec: TrialSpec
    result: TrialResult
    manifest: dict[str, Any]
    data: Path

    @property
    def recipe(self) -> Recipe:
        return RECIPES[str(self.spec.full_schedule.recipe)]

    def state(self) -> dict[str, Tensor]:
        """The weights after the last epoch."""
        state: dict[str, Tensor] = torch.load(self.result.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        return state

    def detector(self) -> nn.Module:
        """The trained network, in eval mode."""
        model = build(self.spec.network, len(self.manifest["classes"]))
        model.load_state_dict(self.state())
        return model.eval()


def trained(folder: Path, data: Path) -> Trained:
    """The trial in `folder`. Raises ExportError where there is none that is finished, or its dataset is not on this machine."""
    try:
        spec = TrialSpec.model_validate_json((folder / SPEC).read_text())
    except FileNotFoundError:
        raise ExportError(f"{folder} holds no trial, or one of before Retort kept its spec beside it: there is no {SPEC}") from None
    except ValidationError as error:
        raise ExportError(f"the trial in {folder} names what this Retort does not know: {error.errors()[0]['msg']}") from None
    result = finished(folder)
    if result is None:
        raise ExportError(f"the trial in {folder} is not finished, or its checkpoint is not the one that it left")
    manifest = read_manifest(data / spec.dataset)
    if manifest is None:
        raise ExportError(f"dataset {spec.dataset!r} is not prepared under {data}; run: retort data check {spec.dataset}")
    return Trained(spec, result, manifest, data)


def find_folder(trials: Path, name: str) -> Path:
    """The folder of a trial under `trials`, by its key or the first digits of it, or the folder itself. Raises ExportError."""
    if (Path(name) / SPEC).is_file():
        return Path(name)
    found = sorted(path for path in trials.glob("*") if path.is_dir() and path.name.startswith(name)) if name.isalnum() else []
    if len(found) == 1:
        return found[0]
    told = f"{len(found)} trials have keys that begin so" if found else f"no trial's key begins so in {trials}"
    raise ExportError(f"{name!r} names no trial: {told}")
