"""A teacher as its students have it: one forward pass a step, however many of them look at the same images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workers.distillation.base import Distiller
from workers.distillation.captures import Recorder, in_float
from workers.distillation.step import Outputs

Looked = tuple[tuple[Tensor, ...], Outputs]  # pyramid levels as they left the neck, and all that was recorded


class Teacher:
    """An mmdet detector in eval mode, without gradients, with what its students read of it together.

    What one student reads and another does not is recorded for both: a student sees the same numbers alone.
    """

    def __init__(self, detector: Any) -> None:
        self.detector = detector.eval().requires_grad_(False)
        self.recorder = Recorder(detector)
        self.reads_head = False
        self.students = 0
        self._inputs: Tensor | None = None  # what it looked at last, and what it gave, by whether the head was exact
        self._looked: dict[bool, Looked] = {}

    def take_on(self, distillers: list[Distiller]) -> None:
        """Another student, with these distillers."""
        self.students += 1
        for distiller in distillers:
            self.recorder.watch(capture for capture in distiller.captures if capture.of_teacher)
            self.reads_head = self.reads_head or distiller.reads_head

    @torch.no_grad()
    def look(self, inputs: Tensor, exact: bool) -> Looked:
        """One forward pass over `inputs` (N, 3, H, W), or what it gave before where these are the images that it looked at last.

        exact: the head runs in float32, also under autocast.
        """
        if inputs is not self._inputs:
            self.forget()
        exact = exact and torch.is_autocast_enabled(inputs.device.type)  # without autocast it is exact anyway
        if exact in self._looked:
            return self._looked[exact]
        levels = self.detector.extract_feat(inputs)
        if exact:
            with torch.autocast(inputs.device.type, enabled=False):
                self.recorder.head(in_float(levels))
        elif self.reads_head:
            self.recorder.head(levels)
        looked = levels, self.recorder.take()
        if self.students > 1:
            self._inputs, self._looked[exact] = inputs, looked
        return looked

    def forget(self) -> None:
        """Lets go of what it saw last, once the step is over."""
        self._inputs = None
        self._looked.clear()
