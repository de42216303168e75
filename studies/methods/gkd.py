"""Gradient-guided distillation."""

from pydantic import Field

from studies.catalog import Detector
from studies.methods.base import Method, Options, filled, same_levels, stages_of

DEFAULTS = {"one": 0.5, "two": 0.01}  # stages -> weight, of the released configs


class GKDOptions(Options):
    """Maps of the features that the detection losses depend on most (Lan and Tian, WACV 2024)."""

    loss_weight: float | None = Field(None, ge=0, description="0: off; null: by stages (one-stage 0.5, two-stage 0.01)")


def _settle(options: GKDOptions, student: Detector, teacher: Detector) -> GKDOptions:
    return filled(options, loss_weight=DEFAULTS[stages_of(student)])


METHOD = Method(
    "gkd",
    "GKD",
    "Lan and Tian, Gradient-Guided Knowledge Distillation for Object Detectors, WACV 2024",
    GKDOptions,
    "workers.distillers.gkd:GKD",
    also=same_levels,
    settle=_settle,
    clip=35.0,
)
