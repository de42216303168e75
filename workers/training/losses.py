"""The losses of an epoch, summed where they are computed: looking at them makes the device wait, so that is done now and then."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from studies.trial import TrialFailure
from workers.training.together import Together


class LossSums:
    """Sums of named losses over `count` batches."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Adds the losses of a batch, scalars."""
        for name, value in losses.items():
            self.sums[name] = self.sums[name] + value.detach() if name in self.sums else value.detach().clone()
        self.count += 1

    def means(self, together: Together | None = None) -> dict[str, float]:
        """Mean losses so far, of all processes; waits for the device, once. Raises TrialFailure("nan") naming the losses that are not
        finite, in all processes where it is so in one."""
        if not self.sums:
            return {}
        totals = torch.stack([total.double() for total in self.sums.values()])
        world = together.world if together else 1
        totals = together.summed(totals) if together else totals
        means = {name: total / (self.count * world) for name, total in zip(self.sums, totals.tolist(), strict=True)}
        bad = [name for name, mean in means.items() if not math.isfinite(mean) and (name != "loss" or len(means) == 1)]
        if bad:
            raise TrialFailure("nan", f"{', '.join(sorted(bad))} became NaN or infinite; lower the learning rate or the distiller's weight")
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": {name: total.cpu() for name, total in self.sums.items()}, "count": self.count}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.sums = {name: total.to(device) for name, total in state["sums"].items()}
        self.count = state["count"]
