"""From submitted data to a valid study: the schema, and then what single fields cannot know.

`parse_study(data)` gives a valid `StudySpec` or raises `SpecError` with every problem: the path of the field
(`arms.1.options.temperature`) and what is allowed there.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from studies.catalog import AS_CONFIGURED, BACKBONES, DATASETS, FORMS, Scale, detectors, family_of, misfit_of, of_pdf_distil
from studies.datasets import datasets
from studies.measures import KINDS
from studies.methods import methods
from studies.planned_measures import D_PRED, misfit
from studies.problems import MOST, Problem, SpecError, problems_of
from studies.recipes import RECIPES
from studies.search_checks import search_misfits
from studies.spec import Arm, Network, Schedule, StudyNetwork, StudySpec
from studies.weights import wrong_weights

STAGED = ("resnet", "resnext", "regnetx")  # backbones whose first stages can be kept from training


def parse_study(data: Any) -> StudySpec:
    """The study that `data` (parsed JSON or YAML) describes. Raises SpecError."""
    if not isinstance(data, dict):
        raise SpecError([Problem("", f"a study is a mapping with name, dataset, student and arms; this is {type(data).__name__}")])
    try:
        spec = StudySpec.model_validate(data)
    except ValidationError as error:
        told = problems_of(error, (), StudySpec)
        raise SpecError([*told, *itertools.islice(_wrong_options(data), max(0, MOST - len(told)))]) from None
    problems = list(_misfits(spec))
    if problems:
        raise SpecError(problems)
    return spec


def _wrong_options(data: dict[str, Any]) -> Iterator[Problem]:
    """Options that their distillers do not have, of a study with other errors: so that all of an arm's are told at once."""
    arms = data.get("arms")
    for index, arm in enumerate(arms[:MOST] if isinstance(arms, list) else []):
        method = methods().get(str(arm.get("distiller"))) if isinstance(arm, dict) else None
        options = arm.get("options") if method else None
        if method is None or not isinstance(options, dict):
            continue
        try:
            method.options.model_validate(options)
        except ValidationError as error:
            yield from problems_of(error, ("arms", index, "options"), method.options)


def _misfits(spec: StudySpec) -> Iterator[Problem]:
    """What single fields cannot know: unique arms, options of the named method, detectors that fit it, masks, the search space."""
    ids = [arm.id for arm in spec.arms]
    first = {arm_id: index for index, arm_id in reversed(list(enumerate(ids)))}
    yield from _network_misfits(spec, ("teacher", spec.teacher), ("student", spec.student))
    yield from _metric_misfits(spec)
    yield from _measure_misfits(spec)
    if spec.teacher:
        yield from _recipe_misfits(spec, "teacher", spec.teacher.schedule, spec.teacher)
    for index, arm in enumerate(spec.arms):
        yield from _network_misfits(spec, (f"arms.{index}.teacher", arm.teacher), (f"arms.{index}.student", arm.student))
        if arm.teacher:
            yield from _recipe_misfits(spec, f"arms.{index}.teacher", arm.teacher.schedule, arm.teacher)
        if first[arm.id] != index:
            yield Problem(f"arms.{index}.id", f"arm id {arm.id!r} is used twice")
        yield from _arm_misfits(spec, arm, ("arms", index))
    if spec.search is None:
        return
    yield from search_misfits(spec, spec.search, lambda arm: list(_searched_misfits(spec, arm)))


def _searched_misfits(spec: StudySpec, arm: Arm) -> Iterator[Problem]:
    """Of an arm with sampled values, its networks among them."""
    where = ("search", "space")
    yield from _network_misfits(spec, ("search.space.teacher", arm.teacher), ("search.space.student", arm.student))
    yield from _arm_misfits(spec, arm, where)


def _network_misfits(spec: StudySpec, *networks: tuple[str, StudyNetwork | None]) -> Iterator[Problem]:
    """Networks, each with the path of its field, whose parts do not go together, that would learn masks where there are none, or that
    are to be taken by a name that nothing has."""
    for where, network in networks:
        if network is None:
            continue
        found = misfit_of(network.detector, network.backbone, network.form)
        if found:
            yield Problem(f"{where}.{found[0]}", found[1])
        if network.backbone == AS_CONFIGURED and network.width:
            yield Problem(f"{where}.width", "a network of its own config is as wide as that says; leave `width` out")
        if _gives_masks(network) and not _taken(network, spec.scale) and not _may_have_masks(spec.dataset):
            yield Problem(f"{where}.detector", _without_masks(network.detector, spec.dataset))
        yield from _weights_misfits(where, network, spec.scale)


def _weights_misfits(where: str, network: StudyNetwork, scale: Scale) -> Iterator[Problem]:
    """Weights that nothing has, or that are asked for twice."""
    if network.weights and (sentence := wrong_weights(network.weights, network.taken_with(scale) is not None)):
        yield Problem(f"{where}.weights", sentence)
    if network.init and (sentence := wrong_weights(network.init, network.starts_from(scale) is not None, whole=False)):
        yield Problem(f"{where}.init", sentence)
    if network.init and network.weights:
        yield Problem(f"{where}.init", "a network is taken with its `weights` as it is, or trains from `init`: say one of them")


def _gives_masks(network: Network) -> bool:
    return "masks" in family_of(network.detector).traits


def _taken(network: Network, scale: Scale) -> bool:
    """Whether it comes from the store of weights instead of a training."""
    return isinstance(network, StudyNetwork) and network.taken_with(scale) is not None


def _may_have_masks(dataset: str) -> bool:
    """False where it is known that there are none; a registered dataset is known from its check on."""
    return datasets()[dataset].masks is not False


def _without_masks(detector: str, dataset: str) -> str:
    fit = ", ".join(name for name, each in datasets().items() if each.masks)
    anew = "" if dataset in DATASETS else f"; if its files have them by now, run `retort data check {dataset}`"
    return (
        f"{family_of(detector).title} learns from instance masks and dataset {dataset!r} has none; "
        f"choose a detector of boxes, or a dataset with masks: {fit}{anew}"
    )


def _metric_misfits(spec: StudySpec) -> Iterator[Problem]:
    """Metrics that no row of the table could have."""
    pairs = [(arm.student or spec.student, arm.teacher or spec.teacher) for arm in spec.arms]
    trained = [network for arm, pair in zip(spec.arms, pairs, strict=True) for network in (pair if arm.uses() else pair[:1]) if network]
    masks = _may_have_masks(spec.dataset) and any(map(_gives_masks, trained))
    compared = any(teacher and not misfit(D_PRED, student, teacher, ()) for student, teacher in pairs)
    fit = ", ".join(name for name, detector in detectors().items() if "masks" in detector.traits)
    for index, name in enumerate(spec.metrics):
        if name.startswith("mask_") and not masks:
            yield Problem(
                f"metrics.{index}", f"{name} needs a detector that learns masks ({fit}) and a dataset that has them; leave {name} out"
            )
        if name == "D_pred" and not compared:
            yield Problem(
                f"metrics.{index}",
                "D_pred compares a one-stage student with its one-stage teacher, and no arm has both; leave it out",
            )


def _measure_misfits(spec: StudySpec) -> Iterator[Problem]:
    """Measurements with options of another kind, of arms that there are not, or of arms that they do not fit."""
    arms = {arm.id: arm for arm in spec.arms}
    for index, measure in enumerate(spec.measure):
        where, kind = f"measure.{index}", KINDS[measure.kind]
        try:
            kind.options.model_validate(measure.options)
        except ValidationError as error:
            yield from problems_of(error, ("measure", index, "options"), kind.options)
        unknown = [name for name in measure.arms or () if name not in arms]
        if unknown:
            yield Problem(f"{where}.arms", f"no arm {unknown[0]!r} in this study; its arms: {', '.join(arms)}")
            continue
        named = [arms[name] for name in measure.arms] if measure.arms is not None else list(arms.values())
        told = {arm.id: misfit(measure, arm.student or spec.student, arm.teacher or spec.teacher, arm.uses()) for arm in named}
        refused = [name for name, sentence in told.items() if sentence]
        if refused and (measure.arms is not None or len(refused) == len(named)):
            yield Problem(f"{where}.arms" if measure.arms else f"{where}.kind", f"arm {refused[0]!r}: {told[refused[0]]}")


def _recipe_misfits(spec: StudySpec, where: str, own: Schedule, network: Network) -> Iterator[Problem]:
    """A recipe that mixes images, for a network that cannot learn from mixed ones, and frozen stages of a backbone that has none to freeze.

    own: the schedule at `where`, over the study's.
    """
    schedule = own.over(spec.schedule)
    if schedule.frozen_stages and not network.backbone.startswith(STAGED):
        field = f"{where}.schedule.frozen_stages" if own.frozen_stages else "schedule.frozen_stages"
        yield Problem(field, f"{BACKBONES[network.backbone].title} has no stages that can be kept from training; leave frozen_stages out")
    recipe = schedule.recipe
    if recipe and RECIPES[recipe].images == "pdf" and not of_pdf_distil(network.form):
        fits = ", ".join(filter(of_pdf_distil, FORMS))
        field = f"{where}.schedule.recipe" if own.recipe else "schedule.recipe"
        yield Problem(field, f"recipe {recipe!r} mixes pairs of images, which only networks of the forms {fits} learn from")


def _arm_misfits(spec: StudySpec, arm: Arm, where: tuple[int | str, ...]) -> Iterator[Problem]:
    def at(*parts: int | str) -> str:
        return ".".join(str(part) for part in where + parts)

    uses = arm.uses()
    for name in ("options", "per_device_images"):
        if arm.distiller is None and getattr(arm, name):
            yield Problem(at(name), f"{name} need a distiller: set `distiller`, or leave `{name}` out")
    if isinstance(arm.distiller, list) and (arm.options or arm.weight != 1.0 or arm.per_device_images):
        yield Problem(
            at("options" if arm.options else "weight" if arm.weight != 1.0 else "per_device_images"),
            "with a list of distillers give each its own: distiller: [{id: fitnet, weight: 1, options: {}}]",
        )
    if len({use.id for use in uses}) < len(uses):
        yield Problem(at("distiller"), "the same distiller twice in one arm")
    teacher, student = arm.teacher or spec.teacher, arm.student or spec.student
    yield from _recipe_misfits(spec, at(), arm.schedule, student)
    if uses and student.taken_with(spec.scale):
        yield Problem(
            at("distiller"), f"the student is taken with the weights {student.weights!r} and not trained; to train from them say `init`"
        )
    if uses and teacher is None:
        yield Problem(at("distiller"), "a distiller needs a teacher: add `teacher: {detector: ..., backbone: ...}` to the study or the arm")
    for index, use in enumerate(uses):
        method = methods()[use.id]
        try:
            options = method.options.model_validate(use.options)
        except ValidationError as error:
            place: tuple[int | str, ...] = ("options",) if isinstance(arm.distiller, str) else ("distiller", index, "options")
            yield from problems_of(error, where + place, method.options)
            continue
        if teacher is None:
            continue
        sentence = method.misfit(student.family, teacher.family, options)
        if sentence:
            yield Problem(at("distiller"), sentence)
        elif use.per_device_images and method.per_device_images_of(options) is None:
            place = () if isinstance(arm.distiller, str) else ("distiller", index)
            yield Problem(
                at(*place, "per_device_images"),
                f"with these options the loss of {method.title} is a mean over images, the same however many a device has; leave it out",
            )
