"""Masked generative distillation."""

from pydantic import Field

from studies.methods.base import Method, Options, same_levels


class MGDOptions(Options):
    """The student's masked features generate the teacher's (Yang et al., ECCV 2022)."""

    loss_weight: float | None = Field(None, ge=0, description="alpha; null: by stages (one-stage 2e-5, two-stage 5e-7)")
    masked: float | None = Field(None, ge=0, lt=1, description="fraction lambda of cells that is masked; null: by stages (0.65, 0.45)")
    inherit: bool | None = Field(
        None, description="start from the teacher's neck and head; null: one-stage students, where the teacher has the same ones"
    )


METHOD = Method(
    "mgd",
    "MGD",
    "Yang et al., Masked Generative Distillation, ECCV 2022",
    MGDOptions,
    "workers.distillers.mgd:MGD",
    reference_images_per_gpu=2,
    also=same_levels,
    clip=35.0,
)
