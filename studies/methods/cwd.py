"""Channel-wise distillation."""

from typing import Literal

from pydantic import Field

from studies.catalog import Detector
from studies.methods.base import Method, Options, same_levels


class CWDOptions(Options):
    """Every channel as a distribution over the cells of a map (Shu et al., ICCV 2021)."""

    source: Literal["neck", "logits"] = Field(
        "neck", description="maps that are distilled: pyramid features, or the class logits of the head"
    )
    temperature: float = Field(1.0, gt=0, le=100, description="tau of the softmax over cells")
    loss_weight: float = Field(10.0, ge=0)
    divergence: Literal["kl", "cross_entropy"] = Field(
        "kl", description="of the same gradient; the cross-entropy adds the teacher's entropy to the value"
    )


def _needs_logits(student: Detector, teacher: Detector, options: Options) -> str | None:
    """Class logits are comparable within a detector family only; features wherever the levels agree."""
    assert isinstance(options, CWDOptions)
    if options.source == "neck":
        return same_levels(student, teacher, options)
    if student.id != teacher.id or "dense_logits" not in student.traits:
        return "CWD on logits needs teacher and student of one detector family with class logits at every cell; use `source: neck`"
    return None


METHOD = Method(
    "cwd",
    "CWD",
    "Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021",
    CWDOptions,
    "workers.distillers.cwd:CWD",
    also=_needs_logits,
)
