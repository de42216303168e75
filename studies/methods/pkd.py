"""Pearson correlation distillation."""

from pydantic import Field

from studies.catalog import Detector
from studies.methods.base import Method, Options, filled, stages_of

DEFAULTS = {"one": 10.0, "two": 6.0}  # stages -> weight


class PKDOptions(Options):
    """Imitates features up to the scale and offset of every channel (Cao et al., NeurIPS 2022)."""

    loss_weight: float | None = Field(None, ge=0, description="null: by stages (one-stage 10, two-stage 6)")


def _settle(options: PKDOptions, student: Detector, teacher: Detector) -> PKDOptions:
    return filled(options, loss_weight=DEFAULTS[stages_of(student)])


METHOD = Method(
    "pkd",
    "PKD",
    "Cao et al., PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient, NeurIPS 2022",
    PKDOptions,
    "workers.distillers.pkd:PKD",
    per_device_images=2,  # standardises over their cells
    settle=_settle,
)
