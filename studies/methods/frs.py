"""Feature richness score."""

from pydantic import Field

from studies.catalog import Detector
from studies.methods.base import Method, Options

# Detector -> (alpha, beta) of the released configs.
WEIGHTS = {"retinanet": (0.005, 0.02), "gfl": (0.1, 0.05), "fcos": (0.01, 0.05)}
TWO_STAGE_WEIGHTS = (0.002, 0.1)


class FRSOptions(Options):
    """Feature-richness guided imitation of pyramid features and class predictions (Du et al., NeurIPS 2021)."""

    alpha: float | None = Field(
        None,
        ge=0,
        description="weight of the feature term, 0: off; null: the paper's (RetinaNet 0.005, GFL 0.1, FCOS 0.01, two-stage 0.002)",
    )
    beta: float | None = Field(
        None,
        ge=0,
        description="weight of the prediction term, 0: off; null: the paper's (RetinaNet 0.02, GFL 0.05, FCOS 0.05, two-stage 0.1)",
    )
    ramp_iterations: int = Field(500, ge=0, description="both terms grow linearly from 0 over so many iterations")


def unweighted(student: Detector, teacher: Detector, options: Options) -> str | None:
    """Where neither the paper nor the options say how strong the terms are."""
    assert isinstance(options, FRSOptions)
    open_ones = [name for name in ("alpha", "beta") if getattr(options, name) is None]
    if not open_ones or student.id in WEIGHTS or "roi_head" in student.traits:
        return None
    return f"FRS states no weights for {student.title}; set {' and '.join(f'options.{name}' for name in open_ones)}"


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
    also=unweighted,
)
