"""Where random numbers come from: every epoch starts from a seed of its own, and one that was broken off goes on where it was."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int, epoch: int, rank: int = 0) -> None:
    """Seeds python, numpy and torch from (seed, epoch); epoch 0 is the drawing of the weights.

    rank: of the process among those that train together, which draw masks and samples of their own.
    """
    mixed = int(np.random.SeedSequence([seed, epoch, *([rank] if rank else [])]).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


def generators_state() -> dict[str, Any]:
    """Where python's, numpy's and torch's generators are, in types that a checkpoint is read with safely."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def set_generators(state: dict[str, Any]) -> None:
    """Puts the generators where `generators_state` found them."""
    kind, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
