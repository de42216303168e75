"""DIST: relations of class scores by their correlation."""

from pydantic import Field

from studies.catalog import Detector
from studies.methods.base import Method, Options, same_levels, stages_of


class DISTOptions(Options):
    """Correlates class scores between classes and between boxes (Huang et al., NeurIPS 2022)."""

    beta: float = Field(1.0, ge=0, description="weight of the relations between the classes of a box; 0: off")
    gamma: float = Field(1.0, ge=0, description="weight of the relations between the boxes of a class; 0: off")
    temperature: float = Field(1.0, gt=0, le=100, description="tau, which softens the scores")


def _same_boxes(student: Detector, teacher: Detector, options: Options) -> str | None:
    """A RoI head scores whatever boxes it is given; dense heads must have the same ones."""
    if stages_of(student) != stages_of(teacher):
        return "DIST compares the scores of dense heads, or those of RoI heads: teacher and student need the same number of stages"
    if stages_of(student) == "two":
        return None
    if student.id != teacher.id:
        return f"DIST needs dense heads with the same boxes, of one detector family; these are {teacher.title} and {student.title}"
    return same_levels(student, teacher, options)


METHOD = Method(
    "dist",
    "DIST",
    "Huang et al., Knowledge Distillation from A Stronger Teacher, NeurIPS 2022",
    DISTOptions,
    "workers.distillers.dist:DIST",
    student_traits=frozenset({"dense_logits"}),
    teacher_traits=frozenset({"dense_logits"}),
    per_device_images=2,  # correlates over their boxes
    also=_same_boxes,
)
