"""Cross-head distillation."""

from pydantic import Field

from studies.catalog import ONE_STAGE, Detector
from studies.methods.base import Method, Options, filled

# One-stage heads of two towers whose remainder can run alone, with the released weights of classes, boxes and centerness.
WEIGHTS = {"gfl": (1.0, 4.0, 0.0), "retinanet": (1.0, 1.0, 0.0), "atss": (1.0, 1.0, 1.0), "fcos": (0.4, 0.75, 0.0)}


class CrossKDOptions(Options):
    """The student's head features, sent through the teacher's head, imitate its predictions (Wang et al., CVPR 2024)."""

    cls_weight: float | None = Field(None, ge=0, description="class predictions, 0: off; null: by detector (1, FCOS 0.4)")
    reg_weight: float | None = Field(None, ge=0, description="boxes, 0: off; null: by detector (GFL 4, RetinaNet and ATSS 1, FCOS 0.75)")
    centerness_weight: float | None = Field(None, ge=0, description="centerness, only ATSS, 0: off; null: 1 for ATSS")


def _has_towers(student: Detector, teacher: Detector, options: Options) -> str | None:
    assert isinstance(options, CrossKDOptions)
    if "distribution" in student.traits and student.id != "gfl":
        return f"CrossKD reads boxes of {student.title} as the family predicts them, not as distributions"
    if student.id not in WEIGHTS:
        written = ", ".join(sorted(WEIGHTS))
        return f"CrossKD runs the last layers of the teacher's head on the student's features, which is written for {written}"
    if student.strides != ONE_STAGE:
        return "CrossKD runs the last layers of a head that all levels share; PDF-Distil's heads are not shared"
    return "CrossKD distils centerness for ATSS alone" if options.centerness_weight and student.id != "atss" else None


def _settle(options: CrossKDOptions, student: Detector, teacher: Detector) -> CrossKDOptions:
    return filled(options, **dict(zip(("cls_weight", "reg_weight", "centerness_weight"), WEIGHTS[teacher.id], strict=True)))


METHOD = Method(
    "crosskd",
    "CrossKD",
    "Wang et al., CrossKD: Cross-Head Knowledge Distillation for Object Detection, CVPR 2024",
    CrossKDOptions,
    "workers.distillers.crosskd:CrossKD",
    student_traits=frozenset({"dense_logits"}),
    teacher_traits=frozenset({"dense_logits"}),
    same_detector="the teacher's head reads the student's head features",
    per_device_images=2,  # standardises over their cells
    also=_has_towers,
    settle=_settle,
)
