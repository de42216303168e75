"""The distillation methods by name: typed options, what each needs of the two detectors, and where its code is.

Declarations only, without torch: the service validates a spec and lists the catalogue from here, and `workers`
imports the implementation when a trial trains. A third party adds one through the entry point group
`retort.distillers`, whose value is a `Method`.
"""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from studies.catalog import TRAITS, Detector


class Options(BaseModel):
    """Base of every method's options: immutable, unknown names refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Method:
    """One distillation method as the catalogue knows it.

    id: name in a spec. title: as printed in tables. paper: citation. options: pydantic model of its options.
    implementation: "module:Class" of the `workers.distillers.base.Distiller`.
    student_traits / teacher_traits: what it reads of each head (`catalog.TRAITS`).
    same_detector: why teacher and student must be the same detector family, or None.
    form: the normalisation, "mean" (independent of batch size) or "sum" (grows with it) or "norm" (grows like its root).
    also: a further check (student, teacher, options) -> sentence if they do not fit.
    """

    id: str
    title: str
    paper: str
    options: type[Options]
    implementation: str
    student_traits: frozenset[str] = frozenset({"neck"})
    teacher_traits: frozenset[str] = frozenset({"neck"})
    same_detector: str | None = None
    form: Literal["mean", "sum", "norm"] = "mean"
    reference_images_per_gpu: int | None = None
    also: Callable[[Detector, Detector, Options], str | None] | None = None

    def misfit(self, student: Detector, teacher: Detector, options: Options) -> str | None:
        """One sentence saying why this pair of detectors cannot use the method, or None when it fits."""
        for role, detector, wanted in (
            ("student", student, self.student_traits),
            ("teacher", teacher, self.teacher_traits),
        ):
            for trait in sorted(wanted - detector.traits):
                return f"{self.title} needs {TRAITS[trait]}, which the {role}'s {detector.title} does not have"
        if self.same_detector and student.id != teacher.id:
            return (
                f"{self.title} needs teacher and student of one detector family ({self.same_detector}); "
                f"these are {teacher.title} and {student.title}"
            )
        return self.also(student, teacher, options) if self.also else None


class FitNetOptions(Options):
    """METHODS' hint on FPN levels (Romero et al. 2015), mean over each level, summed over levels."""

    region: Literal["whole", "gt_boxes"] = Field("whole", description="cells that are imitated")


class PDFDistilOptions(Options):
    """PDF-Distil: prediction-difference weighted feature imitation (Zhang et al., BMVC 2021)."""

    variant: Literal["code", "paper"] = Field("code", description="normalisation: code = batch and all levels at once, paper = per level and image")
    difference: Literal["kl", "l1", "l2", "l2_root"] = Field("l2_root", description="dissimilarity F of class predictions")
    strategy: Literal[
        "adaptive", "all", "most_different_50", "most_different_25", "most_similar_50", "most_similar_25"
    ] = Field("adaptive", description="which locations are distilled (Table 1 of the paper)")
    factor: float = Field(5.0, ge=0, description="weight of the loss")


class LDOptions(Options):
    """Localization Distillation (Zheng et al., CVPR 2022), main region."""

    temperature: float = Field(10.0, gt=0, le=100)
    loss_weight: float = Field(0.25, ge=0)
    average: Literal["none", "weight_sum"] = Field("none", description="none: sum over the batch (released code); weight_sum: divided like GIoU and DFL")


_BUILT_IN = (
    Method("fitnet", "FitNet", "Romero et al., FitNets, ICLR 2015", FitNetOptions, "workers.distillers.fitnet:FitNet"),
    Method(
        "pdf_distil",
        "PDF-Distil",
        "Zhang et al., PDF-Distil, BMVC 2021",
        PDFDistilOptions,
        "workers.distillers.pdf_distil:PDFDistil",
        student_traits=frozenset({"neck", "dense_logits"}),
        teacher_traits=frozenset({"neck", "dense_logits"}),
        same_detector="it compares class predictions cell by cell",
    ),
    Method(
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
    ),
)


@functools.cache
def methods() -> dict[str, Method]:
    """All methods by id: the built-in ones, then those of installed packages (entry point group `retort.distillers`)."""
    found = {m.id: m for m in _BUILT_IN}
    for point in entry_points(group="retort.distillers"):
        try:
            method = point.load()
        except Exception as error:  # a broken add-on must not take the service down
            logging.getLogger(__name__).warning("distiller %s (%s) is left out: %s", point.name, point.value, error)
            continue
        if not isinstance(method, Method) or method.id in found:
            logging.getLogger(__name__).warning("distiller %s (%s) is left out: not a Method, or its id is taken", point.name, point.value)
            continue
        found[method.id] = method
    return found
