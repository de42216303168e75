"""In which numbers a training computes (`precision` of its spec). Weights, optimizer and losses are in 32 bits always."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from studies.spec import ON_GPUS_ALONE
from studies.spec import Precision as Name
from studies.trial import TrialFailure
from workers.detectors.floats import in_floats

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """How the networks of one model compute, and how its gradients are kept from vanishing in float16.

    fp32 is what it says: on a GPU, convolutions do not take torch's usual TF32.
    """

    def __init__(self, name: Name, detectors: list[Any], device: torch.device) -> None:
        """detectors: all mmdet detectors that run in a step. Raises TrialFailure("user") where the device cannot compute so."""
        if device.type == "cpu" and name in ON_GPUS_ALONE:
            raise TrialFailure("user", f"precision: {name} needs a GPU; on CPUs choose fp32 or bf16")
        if device.type == "cuda":
            if name == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
                raise TrialFailure("user", f"precision: bf16 is not computed by {torch.cuda.get_device_name(device)}; choose fp16 or fp32")
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
        self.device, self.half = device, HALVES.get(name)
        if self.half:
            for detector in detectors:
                in_floats(detector)
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        """Inside, the networks compute in it."""
        return torch.autocast(self.device.type, self.half) if self.half else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, scaled in float16."""
        scaled: Tensor = self.scaler.scale(loss)
        scaled.backward()

    def unscaled(self, optimizer: torch.optim.Optimizer) -> None:
        """Makes the optimizer's gradients what they are, to be clipped."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """A step of the optimizer; in float16 none where a gradient has overflowed, and a smaller scale for the next one."""
        self.scaler.step(optimizer)
        self.scaler.update()
