"""Attention-guided and non-local distillation."""

from typing import Literal

from pydantic import Field

from studies.catalog import Detector
from studies.methods.base import Method, Options, filled, same_levels, stages_of

# (variant, stages) -> weights of AT, AM and NLD, and T. The released one-stage code multiplies the two-stage weights by 6.
DEFAULTS = {
    ("code", "two"): (4e-3, 7e-5, 7e-5, 0.5),
    ("code", "one"): (2.4e-2, 4.2e-4, 4.2e-4, 0.1),
    ("paper", "two"): (7e-5, 4e-3, 7e-5, 0.1),
    ("paper", "one"): (4e-4, 2e-2, 4e-4, 0.5),
}


class FBKDOptions(Options):
    """Attention-guided (AT, AM) and non-local (NLD) feature distillation (Zhang & Ma, ICLR 2021)."""

    variant: Literal["code", "paper"] = Field(
        "code", description="formulas and weights of the released code or of the paper; they differ in all terms"
    )
    at_weight: float | None = Field(
        None, ge=0, description="attention transfer, 0: off; null: by variant and stages (code: 4e-3 two-stage, 2.4e-2 one-stage)"
    )
    am_weight: float | None = Field(
        None, ge=0, description="attention-masked features, 0: off; null: by variant and stages (code: 7e-5, 4.2e-4)"
    )
    nld_weight: float | None = Field(
        None, ge=0, description="non-local relations, 0: off; null: by variant and stages (code: 7e-5, 4.2e-4)"
    )
    temperature: float | None = Field(
        None, gt=0, le=100, description="of the attention masks; null: by variant and stages (code: 0.5, 0.1)"
    )
    at_spatial: bool = Field(True, description="transfer spatial attention")
    at_channel: bool = Field(True, description="transfer channel attention")
    mask_spatial: bool = Field(True, description="spatial attention in the mask of AM")
    mask_channel: bool | None = Field(
        None, description="channel attention in the mask of AM; null: yes, but not for two-stage students with `variant: code`"
    )
    nl_mode: Literal["dot_product", "embedded_gaussian", "gaussian", "concatenation"] = Field(
        "dot_product", description="pairwise function of the non-local blocks"
    )


def _settle(options: FBKDOptions, student: Detector, teacher: Detector) -> FBKDOptions:
    stages = stages_of(student)
    at, am, nld, temperature = DEFAULTS[options.variant, stages]
    channel = options.variant == "paper" or stages == "one"
    return filled(options, at_weight=at, am_weight=am, nld_weight=nld, temperature=temperature, mask_channel=channel)


METHOD = Method(
    "fbkd",
    "FBKD",
    "Zhang & Ma, Improve Object Detection with Feature-based Knowledge Distillation, ICLR 2021",
    FBKDOptions,
    "workers.distillers.fbkd:FBKD",
    per_device_images=2,  # a root of their sum
    also=same_levels,
    settle=_settle,
)
