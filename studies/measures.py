"""The kinds of measurement by name: what each finds out about finished checkpoints, its options, and where its code is.

Plain data, without torch: a spec is validated from here, and `workers` imports the code when a measurement runs.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from studies.catalog import in_form

Kind = Literal["d_pred", "errors", "nms", "costs", "attention", "sampling", "detections"]
AREAS = ("all", "small", "medium", "large")  # COCO's, of objects in pixels: all, below 32^2, up to 96^2, above
SAMPLED = frozenset({"fgfi", "defeat", "pad", "pdf_distil"})  # distillers that weigh the cells they imitate
LEARNT = frozenset({"pad"})  # those whose weights come from parts that train with the student, so that its last state is read for them


class MeasureOptions(BaseModel):
    """Base of every kind's options: immutable, unknown names refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NoOptions(MeasureOptions):
    """A kind that leaves nothing to choose."""


class SuppressionOptions(MeasureOptions):
    """Suppression with another overlap than the network's own."""

    threshold: float = Field(gt=0, lt=1, description="IoU from which the lesser of two boxes of a class is suppressed")


class ImageOptions(MeasureOptions):
    """Which images are looked at."""

    images: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1, 2, 3), min_length=1, max_length=32, description="positions in the validation split, from 0"
    )

    @field_validator("images")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("the same image twice")
        return value


class AttentionOptions(ImageOptions):
    """Maps of spatial attention."""

    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.05, 0.1, 0.25, 0.5, 1.0, 2.0), min_length=1, max_length=8, description="T of the softmax over the cells of a level"
    )


class DetectionOptions(ImageOptions):
    """Boxes to look at."""

    score: float = Field(0.3, ge=0, le=1, description="least score of a box that is kept")
    threshold: float | None = Field(None, gt=0, lt=1, description="IoU of suppression; null: the network's own")


@dataclass(frozen=True)
class MeasurementKind:
    """One kind of measurement as the catalogue knows it.

    short: as its jobs are called. teacher: whether it compares a detector with its teacher. module: of `workers`, with its `measure`.
    every_seed: whether it is a number, of which each seed has its own, or a picture, for which the first seed serves.
    images: that pass the networks: the validation split, those that its options choose, or none.
    """

    id: Kind
    short: str
    title: str
    options: type[MeasureOptions]
    module: str
    teacher: Literal["none", "optional", "needed"] = "none"
    every_seed: bool = True
    images: Literal["split", "chosen", "none"] = "split"


KINDS: dict[str, MeasurementKind] = {
    kind.id: kind
    for kind in (
        MeasurementKind(
            "d_pred",
            "D_pred",
            "mean absolute difference of teacher's and student's class probabilities, before suppression",
            NoOptions,
            "workers.measuring.d_pred",
            "needed",
        ),
        MeasurementKind(
            "errors", "errors by area", "what each kind of error costs, by size of the objects", NoOptions, "workers.measuring.area_errors"
        ),
        MeasurementKind(
            "nms", "suppression", "AP and duplicates under another NMS threshold", SuppressionOptions, "workers.measuring.suppression"
        ),
        MeasurementKind(
            "costs",
            "costs",
            "parameters and multiply-adds of backbone, neck and head",
            NoOptions,
            "workers.measuring.component_costs",
            every_seed=False,
            images="none",
        ),
        MeasurementKind(
            "attention",
            "attention",
            "spatial attention at several temperatures",
            AttentionOptions,
            "workers.measuring.attention",
            "optional",
            every_seed=False,
            images="chosen",
        ),
        MeasurementKind(
            "sampling",
            "sampling weights",
            "weights with which a distiller samples cells",
            ImageOptions,
            "workers.measuring.sampling",
            "needed",
            every_seed=False,
            images="chosen",
        ),
        MeasurementKind(
            "detections",
            "detections",
            "boxes, scores and classes on single images",
            DetectionOptions,
            "workers.measuring.detections",
            every_seed=False,
            images="chosen",
        ),
    )
}

ONE_PER_CELL = frozenset({"fcos", "atss", "gfl", "fsaf", "reppoints"})  # one prediction per class and cell


def predictions_compare(student: tuple[str, str | None], teacher: tuple[str, str | None]) -> bool:
    """Whether class predictions of two networks, each a (detector, form), stand for the same cells and anchors, as D_pred needs."""
    ours, theirs = in_form(*student), in_form(*teacher)
    if "roi_head" in ours.traits | theirs.traits or ours.strides != theirs.strides:
        return False
    return ours.id == theirs.id or {ours.id, theirs.id} <= ONE_PER_CELL
