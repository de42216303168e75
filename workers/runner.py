"""mmengine's Runner, which trains on the device that a trial was given instead of on whatever torch sees.

mmengine moves every model to CUDA as soon as there is a GPU; a trial of `gpus: 0` stays on the CPU, beside its teacher.
"""

from __future__ import annotations

from typing import Any

from mmengine.runner import Runner
from torch import nn


class TrialRunner(Runner):
    """A Runner for a model that is where it should be."""

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        """The model, on the device it is on."""
        return model

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Nothing: mmengine's asks each GPU for its name, which takes memory on all of them, and a trial logs no such thing."""
