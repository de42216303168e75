"""PAD: prime-aware adaptive distillation."""

from typing import Literal

from pydantic import Field

from studies.catalog import Detector
from studies.methods.base import Method, Options, filled, same_levels

Form = Literal["paper", "pdf"]
WEIGHTS: dict[Form, float] = {"paper": 1.0, "pdf": 5.0}


class PADOptions(Options):
    """Feature imitation weighted by a learned log-variance."""

    form: Form = Field(
        "paper", description="paper: log-variance of the adapted features; pdf: of the student's, never negative, as PDF-Distil compares it"
    )
    loss_weight: float | None = Field(None, ge=0, description="null: the form's own (paper 1, pdf 5); 0 leaves it out")


def _settle(options: PADOptions, student: Detector, teacher: Detector) -> PADOptions:
    return filled(options, loss_weight=WEIGHTS[options.form])


METHOD = Method(
    "pad",
    "PAD",
    "Zhang et al., Prime-Aware Adaptive Distillation, ECCV 2020",
    PADOptions,
    "workers.distillers.pad:PAD",
    also=same_levels,
    settle=_settle,
)
