"""Feature richness score."""

from pydantic import Field

from studies.catalog import DETECTORS, Detector
from studies.methods.base import Method, Options, filled

# Detector -> (alpha, beta) of the released configs.
PUBLISHED = {"retinanet": (0.005, 0.02), "gfl": (0.1, 0.05), "fcos": (0.01, 0.05), "faster_rcnn": (0.002, 0.1)}


class FRSOptions(Options):
    """Feature-richness guided imitation of pyramid features and class predictions (Du et al., NeurIPS 2021)."""

    alpha: float | None = Field(
        None,
        ge=0,
        description="weight of the feature term, 0: off; null: by detector (RetinaNet 0.005, GFL 0.1, FCOS 0.01, Faster R-CNN 0.002; "
        "others must state it)",
    )
    beta: float | None = Field(
        None,
        ge=0,
        description="weight of the prediction term, 0: off; null: by detector (RetinaNet 0.02, GFL 0.05, FCOS 0.05, Faster R-CNN 0.1; "
        "others must state it)",
    )
    ramp_iterations: int = Field(500, ge=0, description="both terms grow linearly from 0 over so many iterations")


def _stated(student: Detector, teacher: Detector, options: Options) -> str | None:
    """Weights that nobody published are stated, not guessed: they differ fiftyfold between detectors."""
    assert isinstance(options, FRSOptions)
    lacking = [name for name in ("alpha", "beta") if getattr(options, name) is None]
    if student.id in PUBLISHED or not lacking:
        return None
    told = ", ".join(f"{DETECTORS[name].title} {alpha:g} and {beta:g}" for name, (alpha, beta) in PUBLISHED.items())
    return (
        f"FRS has no published weights for {student.title}: state {' and '.join(f'options.{name}' for name in lacking)} "
        f"(published alpha and beta: {told})"
    )


def _settle(options: FRSOptions, student: Detector, teacher: Detector) -> FRSOptions:
    if sentence := _stated(student, teacher, options):
        raise ValueError(sentence)
    if student.id not in PUBLISHED:
        return options
    alpha, beta = PUBLISHED[student.id]
    return filled(options, alpha=alpha, beta=beta)


METHOD = Method(
    "frs",
    "FRS",
    "Du et al., Distilling Object Detectors with Feature Richness, NeurIPS 2021",
    FRSOptions,
    "workers.distillers.frs:FRS",
    student_traits=frozenset({"neck", "dense_logits"}),
    teacher_traits=frozenset({"neck", "dense_logits"}),
    same_detector="it compares class predictions cell by cell",
    per_device_images=2,  # divides by their richness
    also=_stated,
    settle=_settle,
)
