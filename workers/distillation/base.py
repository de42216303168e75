"""What every distiller is and must return; what it is given is in `workers.distillation.step`.

A distiller knows no detector, only the outputs of one forward pass of each network: it is a function of a `Step` with
its own trainable parts (adapters, relation blocks). Those parts train with the student and stay out of the exported model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from studies.methods import Options
from workers.distillation.captures import Capture
from workers.distillation.step import NetworkInfo, Step


class Distiller(nn.Module):
    """Base of all methods.

    Subclasses name in `captures` what they read beyond neck, logits and boxes (`workers.distillation.captures`, or captures of their
    own), build their trainable parts in `__init__`, and return named scalar losses from `forward`. A name starts with "loss_"; a term
    that is switched off is left out of the dict. Losses are computed in float32 whatever autocast says: inputs are cast, and `forward`
    runs with autocast off.
    """

    captures: frozenset[type[Capture[Any]]] = frozenset()  # of the class, or narrowed by an instance to what its options need
    reads_head: bool = True  # False where the teacher's head need not run
    exact_head: bool = False  # True where it must run in float32 under autocast too: bf16 logits are 0.03 apart at the usual -4.6
    ramp_iterations: int = 0  # losses grow linearly from 0 over this many iterations

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        """options: settled for these networks, as `workers.distillation.student.build_distiller` gives them."""
        super().__init__()
        self.options: Any = options

    def own_loss_factors(self) -> dict[str, float]:
        """Factors on the student's own losses, by their names (mmdet's, as in `loss_cls`); a name not given keeps 1."""
        return {}

    def forward(self, step: Step) -> dict[str, Tensor]:
        raise NotImplementedError

    def inherit(self, student: nn.Module, teacher: nn.Module) -> None:
        """Hook for methods that start the student from teacher weights; called once before training. Default: nothing."""


def no_loss(features: tuple[Tensor, ...]) -> Tensor:
    """A zero that keeps the graph connected, for steps in which a method has nothing to imitate."""
    return sum((f.sum() * 0.0 for f in features), start=torch.zeros((), device=features[0].device))
