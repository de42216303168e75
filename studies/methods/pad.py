"""PAD: prime-aware adaptive distillation."""

from typing import Literal

from pydantic import Field

from studies.catalog import Detector
from studies.methods.base import Method, Options, filled, same_levels

Variant = Literal["paper", "pdf"]
WEIGHTS: dict[Variant, float] = {"paper": 1.0, "pdf": 5.0}


class PADOptions(Options):
    """Feature imitation weighted by a learned log-variance."""

    renamed = {"form": "variant"}

    variant: Variant = Field(
        "paper", description="paper: log-variance of the adapted features; pdf: of the student's, never negative, as PDF-Distil compares it"
    )
    loss_weight: float | None = Field(None, ge=0, description="null: the variant's own (paper 1, pdf 5); 0 leaves it out")


def _settle(options: PADOptions, student: Detector, teacher: Detector) -> PADOptions:
    return filled(options, loss_weight=WEIGHTS[options.variant])


def _per_device(options: PADOptions) -> int | None:
    """The paper's branch has a batch norm (2: of the usual training of detectors, as nobody released code); the other is a plain mean."""
    return 2 if options.variant == "paper" else None


METHOD = Method(
    "pad",
    "PAD",
    "Zhang et al., Prime-Aware Adaptive Distillation, ECCV 2020",
    PADOptions,
    "workers.distillers.pad:PAD",
    per_device_images=_per_device,
    also=same_levels,
    settle=_settle,
)
