"""Chen et al. 2017: soft classes, bounded regression and hints for two-stage detectors."""

from typing import Literal

from pydantic import Field

from studies.catalog import Detector
from studies.methods.base import Method, Options


class Chen2017Options(Options):
    """Distillation of RPN and RoI head, with a hint on the pyramid."""

    rpn: bool = Field(True, description="distil the RPN's objectness and boxes on its sampled anchors")
    roi: bool = Field(True, description="distil the RoI head's classes and boxes on its sampled proposals")
    mu: float = Field(0.5, gt=0, le=1, description="share of the student's own class loss; the soft loss has 1 - mu (1 leaves it out)")
    background_weight: float = Field(1.5, ge=0, description="of the background class in the RoI head's soft loss")
    nu: float = Field(0.5, ge=0, description="weight of the bounded regression; 0 leaves it out")
    margin: float = Field(0.0, ge=0, description="m: how much better than the teacher the student's boxes must be to be let alone")
    gamma: float = Field(0.5, ge=0, description="weight of the hint; 0 leaves it out")
    hint: Literal["l2", "l1"] = Field("l2", description="distance of the hint")


def _regresses(student: Detector, teacher: Detector, options: Options) -> str | None:
    assert isinstance(options, Chen2017Options)
    for role, detector in (("student", student), ("teacher", teacher)):
        if options.roi and options.nu > 0 and detector.id == "grid_rcnn":
            return f"Chen's bounded regression needs box deltas of the RoI head, which the {role}'s {detector.title} does not have"
    return None


METHOD = Method(
    "chen2017",
    "Chen et al.",
    "Chen et al., Learning Efficient Object Detection Models with Knowledge Distillation, NeurIPS 2017",
    Chen2017Options,
    "workers.distillers.chen2017:Chen2017",
    student_traits=frozenset({"neck", "roi_head"}),
    teacher_traits=frozenset({"neck", "roi_head"}),
    per_device_images=2,  # means over their samples; of the tables that compare it, as nobody released code
    also=_regresses,
)
