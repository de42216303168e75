"""DeFeat: decoupled features."""

from typing import Literal

from pydantic import Field

from studies.catalog import TRAITS, Detector
from studies.methods.base import Method, Options, filled, same_levels, stages_of, uneven_levels

Variant = Literal["official", "pdf"]
NECK_WEIGHTS: dict[Variant, tuple[float, float]] = {"official": (3.0, 12.0), "pdf": (2.0, 8.0)}  # foreground, background


class DeFeatOptions(Options):
    """DeFeat: foreground and background features imitated with weights of their own; a pair of zero weights leaves a term out."""

    renamed = {"form": "variant"}

    variant: Variant = Field(
        "official", description="pdf: anchors whose centre lies in a box of their scale, neck only, as PDF-Distil compares it"
    )
    neck_foreground: float | None = Field(
        None, ge=0, description="null: the variant's own (official 3 as for VOC, pdf 2); its authors name 4 for COCO"
    )
    neck_background: float | None = Field(
        None, ge=0, description="null: the variant's own (official 12 as for VOC, pdf 8); its authors name 16 for COCO"
    )
    backbone_foreground: float = Field(0.0, ge=0, description="backbone stages C3 to C5 (official variant)")
    backbone_background: float = Field(0.0, ge=0, description="backbone stages C3 to C5 (official variant)")
    head: bool | None = Field(None, description="RoI classes on proposals (official variant); null: where both detectors have a RoI head")
    head_foreground: float = Field(2.0, ge=0, description="RoI classes of positive proposals")
    head_background: float = Field(2.0, ge=0, description="RoI classes of negative proposals")


def _parts(student: Detector, teacher: Detector, options: Options) -> str | None:
    assert isinstance(options, DeFeatOptions)
    if uneven := uneven_levels(student):
        return f"DeFeat: {uneven}"
    if options.variant == "pdf":
        if options.head or options.backbone_foreground or options.backbone_background:
            return "DeFeat's variant 'pdf' distils the neck alone; its backbone and head terms belong to the variant 'official'"
        return same_levels(student, teacher, options)
    for role, detector in (("student", student), ("teacher", teacher)):
        if options.head and "roi_head" not in detector.traits:
            return f"DeFeat's head term needs {TRAITS['roi_head']}, which the {role}'s {detector.title} does not have"
    return same_levels(student, teacher, options)


def _settle(options: DeFeatOptions, student: Detector, teacher: Detector) -> DeFeatOptions:
    foreground, background = NECK_WEIGHTS[options.variant]
    head = options.variant == "official" and stages_of(student) == stages_of(teacher) == "two"
    return filled(options, neck_foreground=foreground, neck_background=background, head=head)


def _clip(options: DeFeatOptions) -> float | None:
    """Of DeFeat's own configs; PDF-Distil's training, whose comparison the other variant is of, clips nothing."""
    return 35.0 if options.variant == "official" else None


def _per_device(options: DeFeatOptions) -> int | None:
    """Its own variant divides by the cells and proposals of a device's images; PDF-Distil's is a plain mean."""
    return 2 if options.variant == "official" else None


METHOD = Method(
    "defeat",
    "DeFeat",
    "Guo et al., Distilling Object Detectors via Decoupled Features, CVPR 2021",
    DeFeatOptions,
    "workers.distillers.defeat:DeFeat",
    per_device_images=_per_device,
    also=_parts,
    settle=_settle,
    clip=_clip,
)
