"""The distillation methods by name: typed options, what each needs of the two detectors, and where its code is.

Declarations only, without torch: the service validates a spec and lists the catalogue from here, and `workers`
imports the implementation when a trial trains. A third party adds one through the entry point group
`retort.distillers`, whose value is a `Method`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

from studies.catalog import TRAITS, Detector


class Options(BaseModel):
    """Base of every method's options: immutable, unknown names refused.

    renamed: former names of options by which older studies still say them, with today's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    renamed: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _by_todays_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        twice = next((old for old, new in cls.renamed.items() if old in data and new in data), None)
        if twice:
            raise ValueError(f"{twice!r} is the former name of {cls.renamed[twice]!r}: say one of them")
        return {cls.renamed.get(name, name): value for name, value in data.items()}


Kind = TypeVar("Kind", bound=Options)


@dataclass(frozen=True)
class Method:
    """One distillation method as the catalogue knows it.

    id: name in a spec. title: as printed in tables. paper: citation. options: pydantic model of its options.
    implementation: "module:Class" of the `workers.distillation.base.Distiller`.
    student_traits / teacher_traits: what it reads of each head (`catalog.TRAITS`).
    same_detector: why teacher and student must be the same detector family, or None.
    per_device_images: images that a device had in its published training, of a loss that is no plain mean over images (it sums over
    them, takes their root, statistics, or a mean over what they hold together); None where it is one; where options choose it, a
    function of them.
    clip: largest norm of the gradient that its released configs train the papers' networks with, where they say one; where options choose
    whose training it is, a function of them.
    also: a further check (student, teacher, options) -> sentence if they do not fit.
    settle: (options, student, teacher) -> the options with every null that stands for a value by detector, stages or variant
    replaced by that value. The pair fits.
    """

    id: str
    title: str
    paper: str
    options: type[Options]
    implementation: str
    student_traits: frozenset[str] = frozenset({"neck"})
    teacher_traits: frozenset[str] = frozenset({"neck"})
    same_detector: str | None = None
    per_device_images: int | Callable[[Any], int | None] | None = None
    clip: float | Callable[[Any], float | None] | None = None
    also: Callable[[Detector, Detector, Options], str | None] | None = None
    settle: Callable[[Any, Detector, Detector], Options] | None = None

    def clip_of(self, options: Options) -> float | None:
        """The clip that these options' released configs state."""
        return self.clip(options) if callable(self.clip) else self.clip

    def per_device_images_of(self, options: Options) -> int | None:
        """The published images per device of these options' loss; None where it does not depend on them."""
        return self.per_device_images(options) if callable(self.per_device_images) else self.per_device_images

    def settled(self, options: Options, student: Detector, teacher: Detector) -> Options:
        """The options with nothing left open for this pair: those that train alike are equal."""
        return self.settle(options, student, teacher) if self.settle else options

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


def device_shares(images: int, per_device: int) -> list[int]:
    """How many images each virtual device has of `images`: at most `per_device`, on as few devices as that takes, the first ones more."""
    devices = -(-images // per_device)
    return [images // devices + (device < images % devices) for device in range(devices)]


def filled(options: Kind, **own: Any) -> Kind:
    """The options (`Method.settle`) with those of `own` that are null set to their value there."""
    return options.model_copy(update={name: value for name, value in own.items() if getattr(options, name) is None})


def stages_of(detector: Detector) -> Literal["one", "two"]:
    """Whether a detector predicts in one stage, or in two: proposals and then boxes."""
    return "two" if "roi_head" in detector.traits else "one"


def same_levels(student: Detector, teacher: Detector, options: Options) -> str | None:
    """For methods that compare pyramid levels cell by cell (`Method.also`): two-stage pyramids begin at stride 4, one-stage ones at 8."""
    if student.strides == teacher.strides:
        return None
    told = " and ".join(f"{d.title} has {', '.join(map(str, d.strides))}" for d in (teacher, student))
    return f"teacher and student must have pyramid levels of the same strides; {told}"


def uneven_levels(student: Detector) -> str | None:
    """For methods that assign boxes or priors to levels themselves: why they cannot on this detector's, or None."""
    if {"anchors", "points"} & student.traits:
        return None
    return f"levels must go from fine to coarse and their cells have equally many priors; those of {student.title} do not"
