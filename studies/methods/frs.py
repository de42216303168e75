"""Feature richness score."""

from pydantic import Field

from studies.methods.base import Method, Options


class FRSOptions(Options):
    """Feature-richness guided imitation of pyramid features and class predictions (Du et al., NeurIPS 2021)."""

    alpha: float | None = Field(
        None,
        ge=0,
        description="weight of the feature term, 0: off; null: by detector (RetinaNet 0.005, GFL 0.1, FCOS 0.01, two-stage 0.002)",
    )
    beta: float | None = Field(
        None,
        ge=0,
        description="weight of the prediction term, 0: off; null: by detector (RetinaNet 0.02, GFL 0.05, FCOS 0.05, two-stage 0.1)",
    )
    ramp_iterations: int = Field(500, ge=0, description="both terms grow linearly from 0 over so many iterations")


METHOD = Method(
    "frs",
    "FRS",
    "Du et al., Distilling Object Detectors with Feature Richness, NeurIPS 2021",
    FRSOptions,
    "workers.distillers.frs:FRS",
    student_traits=frozenset({"neck", "dense_logits"}),
    teacher_traits=frozenset({"neck", "dense_logits"}),
    same_detector="it compares class predictions cell by cell",
    reference_images_per_gpu=2,
)
