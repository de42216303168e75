"""Masked generative distillation."""

from pydantic import Field

from studies.catalog import Detector
from studies.methods.base import Method, Options, filled, same_levels, stages_of

DEFAULTS = {"one": (2e-5, 0.65), "two": (5e-7, 0.45)}  # stages -> alpha, lambda


class MGDOptions(Options):
    """The student's masked features generate the teacher's (Yang et al., ECCV 2022)."""

    loss_weight: float | None = Field(None, ge=0, description="alpha; null: by stages (one-stage 2e-5, two-stage 5e-7)")
    masked: float | None = Field(None, ge=0, lt=1, description="fraction lambda of cells that is masked; null: by stages (0.65, 0.45)")
    inherit: bool | None = Field(
        None, description="start from the teacher's neck and head; null: one-stage students, where the teacher has the same ones"
    )


def _settle(options: MGDOptions, student: Detector, teacher: Detector) -> MGDOptions:
    stages = stages_of(student)
    alpha, masked = DEFAULTS[stages]
    settled = filled(options, loss_weight=alpha, masked=masked)
    may = stages == "one" and student.id == teacher.id  # then null stays: where the weights fit
    return settled if may else filled(settled, inherit=False)


METHOD = Method(
    "mgd",
    "MGD",
    "Yang et al., Masked Generative Distillation, ECCV 2022",
    MGDOptions,
    "workers.distillers.mgd:MGD",
    also=same_levels,
    settle=_settle,
    clip=35.0,
)
