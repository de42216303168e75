"""Localization Distillation."""

from typing import Literal

from pydantic import Field

from studies.catalog import FORMS, ONE_STAGE, TRAITS, TWO_STAGE, Detector
from studies.methods.base import Method, Options, filled

# By detector, as released: main weight with the sides apart, VLR weight as a part of it, classification temperature.
BY_DETECTOR = {"gfl": (0.25, 0.25, 2.0), "retinanet": (0.25, 0.03, 8.0), "fcos": (0.25, 0.25, 2.0), "atss": (0.25, 0.15, 2.0)}
OTHERS = BY_DETECTOR["gfl"]  # no box sides as distributions, so of the three the temperature alone counts
JOINT = 20.0  # one softmax over 68 bins: released weight 5 instead of 0.25
AVERAGE = {"code": "none", "paper": "weight_sum"}  # by variant


class LDOptions(Options):
    """Localization Distillation (Zheng et al., CVPR 2022); by default its main region alone, as in its ablation tables."""

    variant: Literal["code", "paper"] = Field(
        "code",
        description="divergence of a side: code: mean over its bins, paper: their sum; and what `average`, `vlr`, `sides` are when null",
    )
    main_ld: bool = Field(True, description="box distributions at the positives of the student's assigner")
    vlr_ld: bool = Field(False, description="box distributions in the valuable localization region")
    main_kd: bool = Field(False, description="class scores at the positives")
    vlr_kd: bool = Field(False, description="class scores in the valuable localization region (the released code multiplies it by 0)")
    imitation: Literal["none", "whole", "gt_boxes", "main", "finegrained", "decouple", "gibox"] = Field(
        "none", description="cells whose pyramid features are imitated (gt_boxes: the released code's 'fitnet'; gibox: general instances)"
    )
    individual_ld: bool = Field(False, description="the student's own box losses (GIoU and DFL) weigh 0")
    temperature: float = Field(10.0, gt=0, le=100)
    loss_weight: float | None = Field(None, ge=0, description="of main LD; null: by detector (0.25; RetinaNet with joint sides 5)")
    vlr_weight: float | None = Field(
        None, ge=0, description="of VLR LD; null: by detector (GFL, FCOS 1/4, ATSS 0.15, RetinaNet 0.03 of main's)"
    )
    average: Literal["none", "weight_sum"] | None = Field(
        None, description="LD terms are summed over the batch (none: code) or divided like GIoU and DFL (weight_sum: paper)"
    )
    vlr: Literal["code", "paper"] | None = Field(
        None, description="overlap that bounds the VLR: of the anchor's area (code) or true DIoU (paper)"
    )
    exclude_positives: bool | None = Field(None, description="leave positives out of the VLR; null: by detector (RetinaNet and FCOS: yes)")
    sides: Literal["each", "joint"] | None = Field(
        None, description="softmax over each side's bins, or over those of all four sides at once (what the code does for RetinaNet)"
    )
    kd_weight: float = Field(10.0, ge=0, description="of main_kd and vlr_kd")
    kd_temperature: float | None = Field(None, gt=0, le=100, description="null: by detector (2; RetinaNet 8)")
    imitation_weight: float = Field(2.0, ge=0)


def _needs(student: Detector, teacher: Detector, options: Options) -> str | None:
    """Which terms read distributions or anchor boxes: LD and general instances the former, the fine-grained region the latter."""
    assert isinstance(options, LDOptions)
    if student.strides not in {ONE_STAGE, TWO_STAGE}:
        return "LD reads the student's assignment of classes and boxes in one; the Mutual Guidance of PDF-Distil's detectors makes two"
    wanted = set()
    if options.main_ld or options.vlr_ld or options.imitation == "gibox":
        wanted.add("distribution")
    if options.imitation == "finegrained":
        wanted.add("anchors")
    for trait in sorted(wanted):
        for role, detector in (("student", student), ("teacher", teacher)):
            if trait not in detector.traits:
                given_by = [name for name, form in FORMS.items() if trait in form.traits and detector.id in form.detectors]
                mend = f"; give the {role} `form: {given_by[0]}`" if given_by else ""
                return f"LD needs {TRAITS[trait]} for these options, which the {role}'s {detector.title} does not have{mend}"
    return None


def _settle(options: LDOptions, student: Detector, teacher: Detector) -> LDOptions:
    """Where an option is null: the variant's, then the detector's."""
    main, share, temperature = BY_DETECTOR.get(student.id, OTHERS)
    sides = options.sides or ("joint" if student.id == "retinanet" and options.variant == "code" else "each")
    weight = options.loss_weight if options.loss_weight is not None else main * (JOINT if sides == "joint" else 1)
    return filled(
        options,
        loss_weight=weight,
        vlr_weight=share * weight,
        average=AVERAGE[options.variant],
        vlr=options.variant,
        exclude_positives=student.id in {"retinanet", "fcos"},
        sides=sides,
        kd_temperature=temperature,
    )


def _per_device(options: LDOptions) -> int | None:
    """Its terms are sums over a device's images, divided by nothing or by at least 1, or means over chosen boxes or cells of them."""
    terms = options.main_ld or options.vlr_ld or options.main_kd or options.vlr_kd
    return 3 if terms or options.imitation not in {"none", "whole"} else None


METHOD = Method(
    "ld",
    "LD",
    "Zheng et al., Localization Distillation for Dense Object Detection, CVPR 2022",
    LDOptions,
    "workers.distillers.ld:LD",
    student_traits=frozenset({"neck", "dense_logits"}),
    teacher_traits=frozenset({"neck", "dense_logits"}),
    same_detector="it compares box distributions cell by cell",
    per_device_images=_per_device,
    also=_needs,
    settle=_settle,
)
