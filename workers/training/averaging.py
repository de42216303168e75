"""A moving average of a detector's weights, which is what a trial evaluates and exports where its recipe says so."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

WARM_UP = 10  # the first steps count for more: after n of them the average keeps at most (1 + n) / (WARM_UP + n) of itself


class WeightAverage:
    """The average of all floating tensors of a detector's state, beside it; `swap` exchanges the two.

    keep: the share of itself that the average keeps at a step. ramp: after n steps it keeps 1 - exp(-n / ramp) of that share, as in
    PDF-Distil's released code; None: as WARM_UP says. The detector's state is not copied: what is loaded there later counts.
    """

    def __init__(self, detector: nn.Module, keep: float, ramp: int | None = None) -> None:
        self.keep, self.ramp = keep, ramp
        self.steps = 0
        self.own = [tensor for tensor in detector.state_dict().values() if tensor.is_floating_point()]
        self.averages = [tensor.clone() for tensor in self.own]

    @torch.no_grad()
    def update(self) -> None:
        """Takes the detector's weights after a step into the average."""
        self.steps += 1
        torch._foreach_lerp_(self.averages, self.own, 1 - self._kept())

    def _kept(self) -> float:
        """The share of itself that it keeps at the present step."""
        if self.ramp:
            return self.keep * (1 - math.exp(-self.steps / self.ramp))
        return min(self.keep, (1 + self.steps) / (WARM_UP + self.steps))

    @torch.no_grad()
    def swap(self) -> None:
        """Gives the detector the average, and keeps what it had; the second call undoes the first."""
        for own, average in zip(self.own, self.averages, strict=True):
            kept = own.clone()
            own.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, int | list[Tensor]]:
        return {"steps": self.steps, "averages": self.averages}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, int | list[Tensor]]) -> None:
        steps, averages = state["steps"], state["averages"]
        assert isinstance(steps, int)
        assert isinstance(averages, list)
        self.steps = steps
        for average, saved in zip(self.averages, averages, strict=True):
            average.copy_(saved)
