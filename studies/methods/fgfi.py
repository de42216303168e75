"""Fine-grained feature imitation."""

from typing import Literal

from pydantic import Field

from studies.catalog import TRAITS, Detector
from studies.methods.base import Method, Options, filled, same_levels, uneven_levels

Variant = Literal["fpn", "paper", "pdf"]
WEIGHTS: dict[Variant, float] = {"fpn": 3.0, "paper": 0.01, "pdf": 5.0}
PER_DEVICE: dict[Variant, int] = {"fpn": 2, "paper": 1, "pdf": 32}  # images whose chosen cells are counted together
PAPER_START = 400  # iterations without imitation in the authors' code


class FGFIOptions(Options):
    """Fine-grained feature imitation: only cells with anchors near an object are imitated."""

    renamed = {"form": "variant"}

    variant: Variant = Field(
        "fpn",
        description="fpn: each box on its own pyramid level, divided by channels; paper: all levels as one map, not divided by "
        "channels; pdf: cells whose anchors overlap a box by half, as PDF-Distil compares it",
    )
    psi: float = Field(0.5, gt=0, lt=1, description="share of a box's best IoU that makes an anchor near (fpn and paper)")
    loss_weight: float | None = Field(None, ge=0, description="null: the variant's own (fpn 3, paper 0.01, pdf 5); 0 leaves it out")
    start_iteration: int | None = Field(None, ge=0, description="first iteration that imitates; null: paper 400, otherwise 0")


def _anchors(student: Detector, teacher: Detector, options: Options) -> str | None:
    assert isinstance(options, FGFIOptions)
    if uneven := uneven_levels(student):
        return f"FGFI: {uneven}"
    if options.variant == "pdf" or "anchors" in student.traits:
        return same_levels(student, teacher, options)
    return (
        f"FGFI's variant {options.variant!r} needs {TRAITS['anchors']}, which the student's {student.title} does not have; "
        "its variant 'pdf' works on points too"
    )


def _settle(options: FGFIOptions, student: Detector, teacher: Detector) -> FGFIOptions:
    return filled(options, loss_weight=WEIGHTS[options.variant], start_iteration=PAPER_START if options.variant == "paper" else 0)


def _per_device(options: FGFIOptions) -> int:
    return PER_DEVICE[options.variant]


METHOD = Method(
    "fgfi",
    "FGFI",
    "Wang et al., Distilling Object Detectors with Fine-grained Feature Imitation, CVPR 2019",
    FGFIOptions,
    "workers.distillers.fgfi:FGFI",
    per_device_images=_per_device,
    also=_anchors,
    settle=_settle,
)
