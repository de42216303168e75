"""The study spec: what a researcher submits. Every field is a catalogue name or a typed option; anything else is refused.

`parse_study(data)` gives a valid `StudySpec` or raises `SpecError` with every problem: the path of the field
(`arms.1.options.temperature`) and what is allowed there.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from studies.catalog import BACKBONES, DATASETS, DETECTORS, FORMS, METRICS, Scale, in_form, misfit_of, of_pdf_distil
from studies.datasets import datasets
from studies.methods import methods
from studies.recipes import RECIPES, optimizer_of, usual_recipe

WeightsName = Annotated[str, Field(max_length=128, pattern=r"^[a-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?$")]
OnBroken = Literal["stop", "skip"]
Slug = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]


MAX_TRIALS = 10_000  # of one study


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
    near = get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise refuse("unknown_name", f"unknown {what} {name[:80]!r}; allowed: {', '.join(sorted(allowed))}{hint}")


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
        return known(value, DETECTORS, "detector")

    @field_validator("backbone")
    @classmethod
    def _backbone(cls, value: str) -> str:
        return known(value, BACKBONES, "backbone")

    @field_validator("form")
    @classmethod
    def _form(cls, value: str | None) -> str | None:
        return None if value is None else known(value, FORMS, "form")


class Schedule(SpecModel):
    """How long and how fast a network trains. None means what the recipe says, and for `recipe` that of the scale and detector.

    The learning-rate rule: `lr` is stated for `reference_batch` images a step and scaled in proportion to `batch_size`.
    """

    recipe: str | None = Field(None, description="name of a recipe: 1x, 2x, ...")
    epochs: int | None = Field(None, ge=1, le=1000)
    batch_size: int | None = Field(None, ge=1, le=4096, description="images per step over all devices")
    lr: float | None = Field(None, gt=0, le=10, description="learning rate at `reference_batch` images a step")
    reference_batch: int | None = Field(None, ge=1, le=4096, description="images per step that `lr` is stated for; scaled linearly")
    max_iterations: int | None = Field(None, ge=1, description="cut every epoch after this many steps (smoke runs)")

    @field_validator("recipe")
    @classmethod
    def _recipe(cls, value: str | None) -> str | None:
        return None if value is None else known(value, RECIPES, "recipe")

    def over(self, base: "Schedule") -> "Schedule":
        """This schedule where it says something, `base` elsewhere."""
        return base.model_copy(update=self.model_dump(exclude_none=True))

    def resolved(self, scale: Scale, network: Network, dataset: str) -> "Schedule":
        """The schedule with every value spelled out. A smoke run stays a smoke run whatever length the study asks for."""
        asked = Schedule() if scale == "smoke" else self
        usual = usual_recipe(scale, network.detector, network.form, dataset)
        recipe = RECIPES[asked.recipe] if asked.recipe else usual
        optimizer = optimizer_of(recipe, network.detector, network.backbone)
        return asked.over(
            Schedule(
                recipe=recipe.id,
                epochs=recipe.epochs,
                batch_size=optimizer.batch,
                lr=optimizer.lr,
                reference_batch=optimizer.batch,
                max_iterations=recipe.iterations,
            )
        )

    @property
    def scaled_lr(self) -> float:
        """The learning rate that a resolved schedule trains with."""
        if self.lr is None or self.batch_size is None or self.reference_batch is None:
            raise ValueError("the schedule is not resolved")
        return self.lr * self.batch_size / self.reference_batch


class Teacher(Network):
    """The network that teaches, with its own schedule and seed; one teacher serves every seed of its students.

    At paper scale it may be taken as it is from the store of weights; at the other scales it trains, being another network.
    """

    schedule: Schedule = Schedule()
    seed: int = Field(0, ge=0, lt=2**31)
    weights: WeightsName | None = Field(
        None, description="trained weights at paper scale: zoo/CONFIG of mmdet's zoo, or a name of your own"
    )


class MethodUse(SpecModel):
    """One distiller of an arm with its weight (multiplies all its losses) and options."""

    id: str
    weight: float = Field(1.0, ge=0, le=1e6)
    options: dict[str, Any] = {}

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        return known(value, methods(), "distiller")

    def resolved(self) -> "MethodUse":
        """The same with every option spelled out. Raises pydantic's ValidationError, located inside `options`."""
        options = methods()[self.id].options.model_validate(self.options)
        return self.model_copy(update={"options": options.model_dump(mode="json")})


class Arm(SpecModel):
    """One row of the table. No distiller: the baseline. `options` and `weight` belong to a single distiller."""

    id: Slug
    title: str | None = Field(None, max_length=120)
    distiller: str | list[str | MethodUse] | None = None
    options: dict[str, Any] = {}
    weight: float = Field(1.0, ge=0, le=1e6)
    teacher: Teacher | None = Field(None, description="instead of the study's teacher")
    student: Network | None = Field(None, description="instead of the study's student")
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
            return [MethodUse(id=self.distiller, weight=self.weight, options=self.options)]
        return [item if isinstance(item, MethodUse) else MethodUse(id=item) for item in self.distiller]


class Search(SpecModel):
    """Values to try: `space` maps a path inside an arm to `{grid: [...]}` or `{choice: [...]}`.

    grid: every combination. choice: `trials` combinations drawn with `seed`. Each combination is a row of its own.
    """

    space: dict[str, dict[Literal["grid", "choice"], list[Any]]] = Field(min_length=1, max_length=10)
    arms: list[str] | None = Field(None, description="ids of the arms that are searched; None: all with a distiller")
    trials: int | None = Field(None, ge=1, le=1000, description="how many combinations of the `choice` spaces")
    seed: int = Field(0, ge=0, lt=2**31)


class Resources(SpecModel):
    """Devices of one trial. `cpus` is also its number of compute threads, which is part of the trial's identity."""

    cpus: int = Field(1, ge=1, le=256)
    gpus: int = Field(0, ge=0, le=8)


class StudySpec(SpecModel):
    """A study: arms x seeds on one dataset, and what its table reports."""

    name: str = Field(min_length=1, max_length=200)
    dataset: str
    scale: Scale = "nano"
    schedule: Schedule = Schedule()
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field([0], min_length=1, max_length=50)
    teacher: Teacher | None = None
    student: Network
    arms: list[Arm] = Field(min_length=1, max_length=200)
    search: Search | None = None
    resources: Resources = Resources()
    metrics: list[str] = Field(["AP", "AP50", "AP75"], min_length=1)
    on_broken: OnBroken = Field("stop", description="what to do about corrupt images and broken annotations: stop, or train without them")
    force: bool = Field(False, description="train again even where an equal trial is finished")

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
        for name in value:
            known(name, METRICS, "metric")
        if len(set(value)) < len(value):
            raise refuse("duplicate", "the same metric twice")
        return value

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise refuse("duplicate", "the same seed twice")
        return value


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a spec: the dotted path of the field, and what would be right."""

    field: str
    message: str


class SpecError(ValueError):
    """A spec that is refused. `problems` lists everything that was found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{p.field}: {p.message}" if p.field else p.message for p in problems))
        self.problems = problems


def parse_study(data: Any) -> StudySpec:
    """The study that `data` (parsed JSON or YAML) describes. Raises SpecError."""
    if not isinstance(data, dict):
        raise SpecError([Problem("", f"a study is a mapping with name, dataset, student and arms; this is {type(data).__name__}")])
    try:
        spec = StudySpec.model_validate(data)
    except ValidationError as error:
        raise SpecError(_problems_of(error, (), StudySpec)) from None
    problems = list(_misfits(spec))
    if problems:
        raise SpecError(problems)
    return spec


def _misfits(spec: StudySpec) -> Iterator[Problem]:
    """What single fields cannot know: unique arms, options of the named method, detectors that fit it, masks, the search space."""
    from studies.expand import combinations, with_values  # expansion builds on the classes above

    ids = [arm.id for arm in spec.arms]
    yield from _network_misfits(spec, ("teacher", spec.teacher), ("student", spec.student))
    yield from _metric_misfits(spec)
    if spec.teacher:
        yield from _recipe_misfits(spec, "teacher", spec.teacher.schedule, spec.teacher)
    for index, arm in enumerate(spec.arms):
        yield from _network_misfits(spec, (f"arms.{index}.teacher", arm.teacher), (f"arms.{index}.student", arm.student))
        if arm.teacher:
            yield from _recipe_misfits(spec, f"arms.{index}.teacher", arm.teacher.schedule, arm.teacher)
        if arm.id in ids[:index]:
            yield Problem(f"arms.{index}.id", f"arm id {arm.id!r} is used twice")
        yield from _arm_misfits(spec, arm, ("arms", index))
    if spec.search is None:
        return
    for position, arm_id in enumerate(spec.search.arms or []):
        if arm_id not in ids:
            yield Problem(f"search.arms.{position}", f"no arm {arm_id!r}; arms: {', '.join(ids)}")
    for path, way in spec.search.space.items():
        where = f"search.space.{path}"
        if not re.fullmatch(r"options\.[a-z][a-z0-9_]*|weight|schedule\.(recipe|epochs|batch_size|lr)", path):
            yield Problem(
                where, "a path inside an arm: options.NAME, weight, schedule.recipe, schedule.epochs, schedule.batch_size or schedule.lr"
            )
            return
        if len(way) != 1:
            yield Problem(where, "exactly one of grid, choice")
            return
        listed = next(iter(way.values()))
        if not 1 <= len(listed) <= 100:
            yield Problem(where, f"1 to 100 values, not {len(listed)}")
            return
    if spec.search.trials is None and any("choice" in way for way in spec.search.space.values()):
        yield Problem("search.trials", "choice spaces need `trials`: how many combinations to draw")
        return
    count = 1
    for way in spec.search.space.values():
        count *= len(way.get("grid", [None]))
    if any("choice" in way for way in spec.search.space.values()):
        count *= spec.search.trials or 1
    if count > 1000:
        yield Problem("search.space", f"{count} combinations; at most 1000")
        return
    searched = [arm for arm in spec.arms if (arm.id in spec.search.arms if spec.search.arms else arm.distiller)]
    trials = (len(spec.arms) + len(searched) * (count - 1)) * len(spec.seeds)
    if trials > MAX_TRIALS:
        yield Problem("search.space", f"{trials} trials; at most {MAX_TRIALS}")
        return
    for values in combinations(spec.search):
        for arm in searched:
            try:
                sampled = with_values(arm, values)
            except ValidationError as error:
                yield from _problems_of(error, ("search", "space"), Arm)
                return
            found = [Problem(p.field, f"with {values}: {p.message}") for p in _arm_misfits(spec, sampled, ("search", "space"))]
            if found:
                yield from found
                return


def _network_misfits(spec: StudySpec, *networks: tuple[str, Network | None]) -> Iterator[Problem]:
    """Networks, each with the path of its field, whose parts do not go together, or that would learn masks where there are none."""
    for where, network in networks:
        if network is None:
            continue
        found = misfit_of(network.detector, network.backbone, network.form)
        if found:
            yield Problem(f"{where}.{found[0]}", found[1])
        if _gives_masks(network) and not _is_taken(network, spec.scale) and not _may_have_masks(spec.dataset):
            yield Problem(f"{where}.detector", _without_masks(network.detector, spec.dataset))


def _gives_masks(network: Network) -> bool:
    return "masks" in DETECTORS[network.detector].traits


def _is_taken(network: Network, scale: Scale) -> bool:
    """Whether it is a teacher that comes from the store of weights instead of a training."""
    return scale == "paper" and isinstance(network, Teacher) and network.weights is not None


def _may_have_masks(dataset: str) -> bool:
    """False where it is known that there are none; a registered dataset is known from its check on."""
    return datasets()[dataset].masks is not False


def _without_masks(detector: str, dataset: str) -> str:
    fit = ", ".join(name for name, each in datasets().items() if each.masks)
    anew = "" if dataset in DATASETS else f"; if its files have them by now, run `retort data check {dataset}`"
    return (
        f"{DETECTORS[detector].title} learns from instance masks and dataset {dataset!r} has none; "
        f"choose a detector of boxes, or a dataset with masks: {fit}{anew}"
    )


def _metric_misfits(spec: StudySpec) -> Iterator[Problem]:
    """Metrics that no row of the table could have."""
    pairs = [(arm.student or spec.student, (arm.teacher or spec.teacher) if arm.uses() else None) for arm in spec.arms]
    masks = _may_have_masks(spec.dataset) and any(network and _gives_masks(network) for pair in pairs for network in pair)
    compared = any(
        teacher and not any("roi_head" in DETECTORS[n.detector].traits for n in (student, teacher)) for student, teacher in pairs
    )
    fit = ", ".join(name for name, detector in DETECTORS.items() if "masks" in detector.traits)
    for index, name in enumerate(spec.metrics):
        if name.startswith("mask_") and not masks:
            yield Problem(
                f"metrics.{index}", f"{name} needs a detector that learns masks ({fit}) and a dataset that has them; leave {name} out"
            )
        if name == "D_pred" and not compared:
            yield Problem(
                f"metrics.{index}", "D_pred compares a one-stage student with its one-stage teacher, and no arm has both; leave it out"
            )


def _recipe_misfits(spec: StudySpec, where: str, own: Schedule, network: Network) -> Iterator[Problem]:
    """A recipe that mixes images, for a network that cannot learn from mixed ones. own: the schedule at `where`, over the study's."""
    recipe = own.over(spec.schedule).recipe
    if recipe and RECIPES[recipe].images == "pdf" and not of_pdf_distil(network.form):
        fits = ", ".join(filter(of_pdf_distil, FORMS))
        field = f"{where}.schedule.recipe" if own.recipe else "schedule.recipe"
        yield Problem(field, f"recipe {recipe!r} mixes pairs of images, which only networks of the forms {fits} learn from")


def _arm_misfits(spec: StudySpec, arm: Arm, where: tuple[int | str, ...]) -> Iterator[Problem]:
    def at(*parts: int | str) -> str:
        return ".".join(str(part) for part in where + parts)

    uses = arm.uses()
    if arm.distiller is None and arm.options:
        yield Problem(at("options"), "options need a distiller: set `distiller`, or leave `options` out")
    if isinstance(arm.distiller, list) and (arm.options or arm.weight != 1.0):
        yield Problem(
            at("options" if arm.options else "weight"),
            "with a list of distillers give each its own: distiller: [{id: fitnet, weight: 1, options: {}}]",
        )
    if len({use.id for use in uses}) < len(uses):
        yield Problem(at("distiller"), "the same distiller twice in one arm")
    teacher, student = arm.teacher or spec.teacher, arm.student or spec.student
    yield from _recipe_misfits(spec, at(), arm.schedule, student)
    if uses and teacher is None:
        yield Problem(at("distiller"), "a distiller needs a teacher: add `teacher: {detector: ..., backbone: ...}` to the study or the arm")
        return
    for index, use in enumerate(uses):
        method = methods()[use.id]
        try:
            options = method.options.model_validate(use.options)
        except ValidationError as error:
            place: tuple[int | str, ...] = ("options",) if isinstance(arm.distiller, str) else ("distiller", index, "options")
            yield from _problems_of(error, where + place, method.options)
            continue
        assert teacher is not None
        ours, theirs = (in_form(network.detector, network.form, network.backbone) for network in (student, teacher))
        sentence = method.misfit(ours, theirs, options)
        if sentence:
            yield Problem(at("distiller"), sentence)


def _problems_of(error: ValidationError, where: tuple[int | str, ...], model: type[BaseModel]) -> list[Problem]:
    """Pydantic's errors as problems; an unknown field's message lists the fields there are."""
    problems = []
    for e in error.errors(include_url=False, include_context=False, include_input=False):
        unknown = e["type"] == "extra_forbidden"  # then the last part is the user's own word, not pydantic's name of a union's way
        parts, own = (e["loc"][:-1], e["loc"][-1:]) if unknown else (e["loc"], ())
        loc = [*(part for part in parts if not (isinstance(part, str) and ("[" in part or part in {"str", "MethodUse"}))), *own]
        message = e["msg"]
        if unknown:
            allowed = _fields_at(model, loc[:-1])
            near = get_close_matches(str(loc[-1]), allowed, n=1) if allowed else []
            message = (
                "unknown field" + (f"; allowed: {', '.join(allowed)}" if allowed else "") + (f"; did you mean {near[0]!r}?" if near else "")
            )
        problems.append(Problem(".".join(str(part)[:80] for part in (*where, *loc)), message))
    return problems


def _fields_at(model: type[BaseModel], loc: list[int | str]) -> list[str]:
    """Names of the fields of the model that `loc` leads to (empty where it is no model)."""
    current: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int) or current is None:
            continue
        field = current.model_fields.get(part)
        current = _model_in(field.annotation) if field else None
    return sorted(current.model_fields) if current else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model class inside an annotation such as `list[Arm]` or `Teacher | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in getattr(annotation, "__args__", ()) if (m := _model_in(a))), None)
