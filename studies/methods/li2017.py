"""Li et al. 2017: feature mimicking on proposals."""

from pydantic import Field

from studies.methods.base import Method, Options


class Li2017Options(Options):
    """The student's pooled RoI features imitate the teacher's on the same proposals."""

    loss_weight: float = Field(1.0, ge=0, description="lambda; 0 leaves the loss out")


METHOD = Method(
    "li2017",
    "Li et al.",
    "Li et al., Mimicking Very Efficient Network for Object Detection, CVPR 2017",
    Li2017Options,
    "workers.distillers.li2017:Li2017",
    student_traits=frozenset({"neck", "roi_head"}),
    teacher_traits=frozenset({"neck", "roi_head"}),
    per_device_images=2,  # a mean over their proposals; of the tables that compare it, as nobody released code
)
