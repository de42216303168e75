"""The study spec: what a researcher submits. Every field is a catalogue name or a typed option; anything else is refused.

What single fields cannot know is checked by `studies.parse`.
"""

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, field_validator, model_validator
from pydantic_core import PydanticCustomError

from studies.catalog import BACKBONES, DETECTORS, FORMS, METRICS, Detector, Scale, detectors, in_form
from studies.datasets import datasets
from studies.measures import KINDS
from studies.methods import methods
from studies.problems import nearest
from studies.recipes import RECIPES, optimizer_of, usual_recipe

WeightsName = Annotated[str, Field(max_length=128, pattern=r"^[a-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?$")]
OnBroken = Literal["stop", "skip"]
Slug = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]


class SpecModel(BaseModel):
    """Base of the spec's parts: unknown fields refused, strict about infinities, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def refuse(kind: str, message: str) -> PydanticCustomError:
    """An error whose text is shown as it is (braces in user text must not be taken for fields)."""
    return PydanticCustomError(kind, "{text}", {"text": message})


def known(name: str, allowed: dict[str, Any], what: str) -> str:
    """`name` if it is in the catalogue, else an error that lists what is allowed and the nearest name."""
    if name in allowed:
        return name
    hint = f"; did you mean {near!r}?" if (near := nearest(name, allowed)) else ""
    raise refuse("unknown_name", f"unknown {what} {name[:80]!r}; allowed: {', '.join(sorted(allowed))}{hint}")


MetricName = Annotated[str, AfterValidator(lambda name: known(name, METRICS, "metric"))]


class Network(SpecModel):
    """A detector on a backbone. `width`: base channels of a narrow (nano) backbone; None: 8 for a student, 16 for a teacher,
    of a form that multiplies channels those after it.

    form: a published change of the family's network (`catalog.FORMS`).
    """

    detector: str
    backbone: str
    width: int | None = Field(None, ge=4, le=64, multiple_of=4, description="base channels at nano scale")
    form: str | None = Field(None, description="a published change of the network, as LD's boxes as distributions")

    @field_validator("detector")
    @classmethod
    def _detector(cls, value: str) -> str:
        return value if value in DETECTORS else known(value, detectors(), "detector")

    @field_validator("backbone")
    @classmethod
    def _backbone(cls, value: str) -> str:
        return known(value, BACKBONES, "backbone")

    @field_validator("form")
    @classmethod
    def _form(cls, value: str | None) -> str | None:
        return None if value is None else known(value, FORMS, "form")

    @property
    def family(self) -> Detector:
        """The detector family as this network is: in its form, on its backbone."""
        return in_form(self.detector, self.form, self.backbone)


class Schedule(SpecModel):
    """How long and how fast a network trains. None means what the recipe says, and for `recipe` that of the scale and detector.

    The learning-rate rule: `lr` is stated for `reference_batch` images a step and scaled in proportion to `batch_size`.
    """

    recipe: str | None = Field(None, description="name of a recipe: 1x, 2x, ...")
    epochs: int | None = Field(None, ge=1, le=1000)
    batch_size: int | None = Field(None, ge=1, le=4096, description="images per step over all devices")
    lr: float | None = Field(None, gt=0, le=10, description="learning rate at `reference_batch` images a step")
    reference_batch: int | None = Field(None, ge=1, le=4096, description="images per step that `lr` is stated for; scaled linearly")
    clip: float | None = Field(None, ge=0, le=1e6, description="largest norm of the gradient; 0: it is not clipped")
    weight_decay: float | None = Field(None, ge=0, le=1, description="of the optimizer")
    warm_up: int | None = Field(None, ge=0, le=1_000_000, description="steps over which the learning rate rises at first; 0: none")
    accumulate: int | None = Field(None, ge=1, le=256, description="parts that a step's images pass in, one after another")
    average: float | None = Field(
        None, ge=0, lt=1, description="share of itself that a moving average of the weights keeps at a step; it is evaluated. 0: none"
    )
    frozen_stages: int | None = Field(
        None, ge=0, le=4, description="first stages of the backbone that do not train, with its stem; null: as the zoo's config has it"
    )
    val_interval: int | None = Field(None, ge=1, le=1000, description="epochs between evaluations; the last epoch is always evaluated")
    max_iterations: int | None = Field(None, ge=1, description="cut every epoch after this many steps (smoke runs)")

    @field_validator("recipe")
    @classmethod
    def _recipe(cls, value: str | None) -> str | None:
        return None if value is None else known(value, RECIPES, "recipe")

    def over(self, base: "Schedule") -> "Schedule":
        """This schedule where it says something, `base` elsewhere."""
        return base.model_copy(update=self.model_dump(exclude_none=True))

    def resolved(self, scale: Scale, network: Network, dataset: str, teaches: bool = False) -> "Schedule":
        """The schedule with every value spelled out, of a student or a teacher. A smoke run stays a smoke run whatever length the
        study asks for."""
        asked = Schedule() if scale == "smoke" else self
        usual = usual_recipe(scale, network.detector, network.form, dataset, teaches)
        recipe = RECIPES[asked.recipe] if asked.recipe else usual
        optimizer = optimizer_of(recipe, network.detector, network.backbone, network.form)
        return asked.over(
            Schedule(
                recipe=recipe.id,
                epochs=recipe.epochs,
                batch_size=optimizer.batch,
                lr=optimizer.lr,
                reference_batch=optimizer.batch,
                clip=optimizer.clip or 0.0,
                weight_decay=optimizer.weight_decay,
                warm_up=optimizer.warm_up.iterations if optimizer.warm_up else 0,
                accumulate=1,
                average=recipe.average or 0.0,
                val_interval=recipe.val_interval,
                max_iterations=recipe.iterations,
            )
        )

    def as_methods_state(self, uses: Iterable["MethodUse"], scale: Scale) -> "Schedule":
        """This schedule with the clip that its distillers state for the papers' networks, where it says none itself."""
        known = [(methods()[use.id], use.options) for use in uses]
        stated = [clip for method, options in known if (clip := method.clip_of(method.options.model_validate(options))) is not None]
        return self.over(Schedule(clip=min(stated))) if stated and scale == "paper" else self

    @property
    def images_at_once(self) -> float:
        """Images that a resolved schedule has in one forward pass, over all devices."""
        if self.batch_size is None:
            raise ValueError("the schedule is not resolved")
        return self.batch_size / (self.accumulate or 1)

    @property
    def scaled_lr(self) -> float:
        """The learning rate that a resolved schedule trains with."""
        if self.lr is None or self.batch_size is None or self.reference_batch is None:
            raise ValueError("the schedule is not resolved")
        return self.lr * self.batch_size / self.reference_batch


class StudyNetwork(Network):
    """A network as a study says it: with weights of the store that it starts from or, instead of training, is taken with as it is.

    Weights of the zoo and of ImageNet count at paper scale alone, being of networks of its size; those of one's own at every scale.
    """

    init: WeightsName | None = Field(
        None, description="weights it starts from: imagenet/BACKBONE, zoo/CONFIG (both at paper scale), or a name of your own"
    )
    weights: WeightsName | None = Field(
        None, description="trained weights it is taken with, not trained: zoo/CONFIG (at paper scale), or a name of your own"
    )

    def starts_from(self, scale: Scale) -> str | None:
        """The weights that it trains from at a scale, where the study says them."""
        return _counting(self.init, scale)

    def taken_with(self, scale: Scale) -> str | None:
        """The weights that it has at a scale instead of a training."""
        return _counting(self.weights, scale)


def _counting(weights: str | None, scale: Scale) -> str | None:
    """The name where such weights mean something at a scale, else None."""
    of_its_size = scale == "paper" or not (weights or "").startswith(("zoo/", "imagenet/"))
    return weights if of_its_size else None


class Teacher(StudyNetwork):
    """The network that teaches, with its own schedule and seed; one teacher serves every seed of its students."""

    schedule: Schedule = Schedule()
    seed: int = Field(0, ge=0, lt=2**31)


PerDeviceImages = Annotated[int | None, Field(ge=1, le=4096)]


class MethodUse(SpecModel):
    """One distiller of an arm with its weight (multiplies all its losses) and options.

    per_device_images: images that its loss is taken over at a time, as if each such part of a batch were on a device of its own; None:
    those of the published training, or for good where the loss is a plain mean over images.
    """

    id: str
    weight: float = Field(1.0, ge=0, le=1e6)
    options: dict[str, Any] = {}
    per_device_images: PerDeviceImages = Field(None, description="images that its loss takes at a time; null: as published")

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        return known(value, methods(), "distiller")

    def resolved(self, student: Detector, teacher: Detector) -> "MethodUse":
        """The same with every option spelled out, as it is for this pair. Raises pydantic's ValidationError, located inside `options`."""
        method = methods()[self.id]
        options = method.settled(method.options.model_validate(self.options), student, teacher)
        published = method.per_device_images_of(options)
        images = None if published is None else self.per_device_images or published
        return self.model_copy(update={"options": options.model_dump(mode="json"), "per_device_images": images})


Distillers = Annotated[list[str | MethodUse], Field(max_length=20)]


class Arm(SpecModel):
    """One row of the table. No distiller: the baseline. `options`, `weight` and `per_device_images` belong to a single distiller."""

    id: Slug
    title: str | None = Field(None, max_length=120)
    distiller: str | Distillers | None = None
    options: dict[str, Any] = {}
    weight: float = Field(1.0, ge=0, le=1e6)
    per_device_images: PerDeviceImages = Field(None, description="images that the loss takes at a time; null: as published")
    teacher: Teacher | None = Field(None, description="instead of the study's teacher")
    student: StudyNetwork | None = Field(None, description="instead of the study's student")
    schedule: Schedule = Schedule()

    @field_validator("distiller")
    @classmethod
    def _distiller(cls, value: str | list[str | MethodUse] | None) -> str | list[str | MethodUse] | None:
        for item in [value] if isinstance(value, str) else value or []:
            if isinstance(item, str):
                known(item, methods(), "distiller")
        if value == []:
            raise refuse("empty", "an empty list: name a distiller, or leave `distiller` out for the baseline")
        return value

    def uses(self) -> list[MethodUse]:
        """The distillers of this arm, options as given."""
        if self.distiller is None:
            return []
        if isinstance(self.distiller, str):
            return [MethodUse(id=self.distiller, weight=self.weight, options=self.options, per_device_images=self.per_device_images)]
        return [item if isinstance(item, MethodUse) else MethodUse(id=item) for item in self.distiller]


Algorithm = Literal["grid", "random", "tpe", "cmaes", "qmc", "nsga2"]
Scheduler = Literal["none", "asha", "hyperband", "median"]
WayName = Literal["grid", "choice", "sweep", "int", "logint", "uniform", "loguniform", "when"]


class Objective(SpecModel):
    """What a search wants: a metric, better as its table has it. over: of the seeds, their mean, or the lower end of its 95% interval
    (the upper one where less is better)."""

    metric: MetricName
    over: Literal["mean", "lower"] = "mean"


class Search(SpecModel):
    """Values to try: `space` maps a path inside an arm to the way its values are taken.

    Without `algorithm` every combination is a row of its own. grid: every combination. choice: `trials` combinations drawn with `seed` from
    all there are. sweep: the arm as it is, and one factor changed at a time.

    With `algorithm` combinations are drawn one after another while the study runs, each from what those before it came to, and the best
    is trained anew with `confirm` fresh seeds. Ways are then {choice: [...]} (or grid), and {int|logint|uniform|loguniform: [LOW, HIGH]};
    `when: {path: value}` beside a way draws it only where that path has that value. `scheduler` stops trainings without promise early.
    """

    space: dict[str, dict[WayName, Any]] = Field(min_length=1, max_length=30)
    arms: list[str] | None = Field(None, description="ids of the arms that are searched; None: all with a distiller")
    trials: int | None = Field(None, ge=1, le=1000, description="how many combinations are drawn")
    seed: int = Field(0, ge=0, lt=2**31)
    algorithm: Algorithm | None = Field(None, description="how combinations are drawn; null: all are rows from the beginning")
    scheduler: Scheduler = Field("none", description="which trainings are stopped early, by how they compare with others at an epoch")
    objective: list[Objective] = Field([Objective(metric="AP")], min_length=1, max_length=3, description="several: their Pareto front")
    first: list[dict[str, Any]] = Field([], max_length=100, description="combinations to try before any is drawn")
    confirm: int = Field(3, ge=1, le=20, description="fresh seeds that the best is trained with, and all rows that are not searched")
    parallel: int = Field(
        4, ge=1, le=256, description="combinations that are tried at once; each is drawn without knowing the others' ends"
    )
    grace: int = Field(1, ge=1, le=1000, description="epochs before which no training is stopped")
    reduction: float = Field(3.0, gt=1, le=16, description="of so many trainings at a rung one goes on (asha, hyperband)")

    @field_validator("objective", mode="before")
    @classmethod
    def _objective(cls, value: Any) -> Any:
        listed = value if isinstance(value, list) else [value]
        return [{"metric": each} if isinstance(each, str) else each for each in listed]


class Measure(SpecModel):
    """A measurement of finished trainings, a job of its own. options: of its kind. arms: ids; None: all that it fits, and for kinds
    that need no teacher the teachers too."""

    kind: str
    options: dict[str, Any] = {}
    arms: list[str] | None = None

    @field_validator("kind")
    @classmethod
    def _kind(cls, value: str) -> str:
        return known(value, KINDS, "kind of measurement")


def _whole_where_it_is(count: float) -> float:
    return int(count) if float(count).is_integer() else count


Precision = Literal["fp32", "tf32", "bf16", "fp16"]
PRECISIONS: dict[Precision, str] = {
    "fp32": "32-bit numbers throughout",
    "tf32": "matrix products and convolutions of 10-bit fractions, on a GPU of 2020 or newer",
    "bf16": "networks in bfloat16, losses and weights in 32 bits",
    "fp16": "networks in float16, losses and weights in 32 bits, gradients scaled",
}
ON_GPUS_ALONE = ("tf32", "fp16")


class Resources(SpecModel):
    """What a trial has while it runs, on one node, and how many processes train it: one on each GPU, or `workers` on CPUs.

    How many share a GPU, memory, and groups are no part of a trial's identity: numbers do not depend on them. Threads and processes are.
    """

    cpus: int = Field(1, ge=1, le=256, description="compute threads; of each of `workers`, of several GPUs' processes together")
    gpus: Annotated[float, PlainSerializer(_whole_where_it_is)] = Field(
        0, ge=0, le=8, description="whole ones, or a part of one: with 0.25 four trials share a GPU"
    )
    workers: int = Field(1, ge=1, le=64, description="processes of a trial without GPUs, which share every batch")
    memory: float = Field(0, ge=0, le=16_384, description="GiB of main memory that its node has to have left; 0: any")
    group: Literal["auto", "off"] = Field(
        "off", description="auto: students of one teacher train as a group, in one process, where there are fewer devices than trials"
    )

    @field_validator("group", mode="before")
    @classmethod
    def _off_of_yaml(cls, value: Any) -> Any:
        """YAML reads a bare `off` as false."""
        return "off" if value is False else value

    @field_validator("gpus")
    @classmethod
    def _whole_or_a_part(cls, value: float) -> float:
        if value > 1 and not value.is_integer():
            raise ValueError("a trial has whole GPUs, or a part of one, such as 0.5")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> "Resources":
        if self.gpus and self.workers > 1:
            raise refuse("two_ways", "a trial with GPUs has a process on each: leave `workers` out")
        return self

    @property
    def visible_gpus(self) -> int:
        """How many GPUs a trial sees."""
        return math.ceil(self.gpus)

    @property
    def processes(self) -> int:
        """Processes that train one trial together."""
        return max(self.visible_gpus, self.workers)

    @property
    def threads(self) -> int:
        """Compute threads of each process."""
        return max(1, self.cpus // max(1, self.visible_gpus))

    @property
    def all_cpus(self) -> int:
        """CPUs that a trial takes of its node."""
        return self.cpus * self.workers


class StudySpec(SpecModel):
    """A study: arms x seeds on one dataset, and what its table reports."""

    name: str = Field(min_length=1, max_length=200)
    dataset: str
    scale: Scale = "nano"
    schedule: Schedule = Schedule()
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field([0], min_length=1, max_length=50)
    teacher: Teacher | None = None
    student: StudyNetwork
    arms: list[Arm] = Field(min_length=1, max_length=200)
    search: Search | None = None
    resources: Resources = Resources()
    metrics: list[MetricName] = Field(["AP", "AP50", "AP75"], min_length=1, max_length=40)
    measure: list[Measure] = Field([], max_length=20, description="what to measure of the finished trainings, for pictures and tables")
    on_broken: OnBroken = Field("stop", description="what to do about corrupt images and broken annotations: stop, or train without them")
    precision: Precision = Field("fp32", description="; ".join(f"{name}: {what}" for name, what in PRECISIONS.items()))
    force: bool = Field(False, description="train again even where an equal trial is finished")

    @model_validator(mode="after")
    def _computes(self) -> "StudySpec":
        if self.precision in ON_GPUS_ALONE and not self.resources.gpus:
            raise refuse("precision", f"`precision: {self.precision}` needs a GPU (`resources: {{gpus: 1}}`); on CPUs choose fp32 or bf16")
        return self

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not value.strip() or not value.isprintable():
            raise refuse("bad_name", "a printable, non-blank name on one line")
        return value.strip()

    @field_validator("dataset")
    @classmethod
    def _dataset(cls, value: str) -> str:
        return known(value, datasets(), "dataset")

    @field_validator("metrics")
    @classmethod
    def _metrics(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise refuse("duplicate", "the same metric twice")
        return value

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise refuse("duplicate", "the same seed twice")
        return value
