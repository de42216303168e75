"""Localization Distillation."""

from typing import Literal

from pydantic import Field

from studies.methods.base import Method, Options


class LDOptions(Options):
    """Localization Distillation (Zheng et al., CVPR 2022), main region."""

    temperature: float = Field(10.0, gt=0, le=100)
    loss_weight: float = Field(0.25, ge=0)
    average: Literal["none", "weight_sum"] = Field("none", description="none: sum over the batch (released code); weight_sum: divided like GIoU and DFL")


METHOD = Method(
    "ld",
    "LD",
    "Zheng et al., Localization Distillation for Dense Object Detection, CVPR 2022",
    LDOptions,
    "workers.distillers.ld:LD",
    student_traits=frozenset({"distribution"}),
    teacher_traits=frozenset({"distribution"}),
    same_detector="it compares box distributions cell by cell",
    form="sum",
    reference_images_per_gpu=3,
)
