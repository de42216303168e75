"""Focal and global distillation."""

from pydantic import Field

from studies.catalog import Detector
from studies.methods.base import Method, Options, filled, same_levels, stages_of

# (fg, bg, attention, relation, T): the released configs, by detector or else by stages.
DEFAULTS = {
    "one": (1e-3, 5e-4, 5e-4, 5e-6, 0.5),
    "two": (5e-5, 2.5e-5, 5e-5, 5e-7, 0.5),
    "fcos": (1.6e-3, 8e-4, 8e-4, 8e-6, 0.8),
}


class FGDOptions(Options):
    """Focal (foreground, background, attention) and global (relation) feature distillation (Yang et al., CVPR 2022)."""

    fg_weight: float | None = Field(
        None, ge=0, description="alpha, foreground, 0: off; null: by detector (one-stage 1e-3, FCOS 1.6e-3, two-stage 5e-5)"
    )
    bg_weight: float | None = Field(None, ge=0, description="beta, background, 0: off; null: by detector (5e-4, 8e-4, 2.5e-5)")
    attention_weight: float | None = Field(None, ge=0, description="gamma, attention, 0: off; null: by detector (5e-4, 8e-4, 5e-5)")
    relation_weight: float | None = Field(None, ge=0, description="lambda, global relation, 0: off; null: by detector (5e-6, 8e-6, 5e-7)")
    temperature: float | None = Field(None, gt=0, le=100, description="of the attention; null: by detector (0.5, FCOS 0.8)")
    inherit: bool | None = Field(
        None, description="start from the teacher's neck and head; null: where teacher and student have the same ones"
    )


def _settle(options: FGDOptions, student: Detector, teacher: Detector) -> FGDOptions:
    names = ("fg_weight", "bg_weight", "attention_weight", "relation_weight", "temperature")
    values = DEFAULTS.get(student.id) or DEFAULTS[stages_of(student)]
    settled = filled(options, **dict(zip(names, values, strict=True)))
    return settled if student.id == teacher.id else filled(settled, inherit=False)  # else null stays: where the weights fit


METHOD = Method(
    "fgd",
    "FGD",
    "Yang et al., Focal and Global Knowledge Distillation for Detectors, CVPR 2022",
    FGDOptions,
    "workers.distillers.fgd:FGD",
    also=same_levels,
    settle=_settle,
    clip=35.0,
)
