"""From a study to its trials: arms x sampled values x seeds, teachers first. Pure: no stored results, no devices."""

import itertools
import random
from dataclasses import dataclass
from typing import Any

from studies.catalog import BACKBONES, DETECTORS, channels_of
from studies.methods import methods
from studies.recipes import NANO_WIDTH
from studies.spec import Arm, MethodUse, Network, Schedule, Search, StudySpec, Teacher
from studies.trial import TeacherRef, TrialSpec


@dataclass(frozen=True)
class PlannedTrial:
    """One training of a study before it has an identity.

    id: unique in the study and readable ("fitnet/seed-0", "teacher/gfl-resnet34/seed-0").
    row: id of the table row (arm id, with sampled values for a searched arm; the teacher's own id for a teacher).
    title: row as printed. teacher: id of the planned trial whose checkpoint this one needs, or None.
    """

    id: str
    row: str
    title: str
    role: str  # "teacher", "baseline" or "distilled"
    network: Network
    schedule: Schedule
    seed: int
    teacher: str | None
    distillers: tuple[MethodUse, ...]
    values: tuple[tuple[str, Any], ...] = ()  # sampled values of a searched arm
    weights: str | None = None  # trained weights that are taken instead of a training

    def resolve(self, study: StudySpec, teacher: TeacherRef | None) -> TrialSpec:
        """The trainable spec; `teacher` is given exactly when this trial needs one."""
        if (teacher is None) != (self.teacher is None):
            raise ValueError(f"{self.id}: teacher {'missing' if teacher is None else 'not wanted'}")
        return TrialSpec(
            dataset=study.dataset,
            scale=study.scale,
            network=self.network,
            schedule=self.schedule,
            seed=self.seed,
            threads=study.resources.cpus,
            gpus=study.resources.gpus,
            teacher=teacher,
            distillers=list(self.distillers),
            on_broken=study.on_broken,
            weights=self.weights,
        )


def expand(study: StudySpec) -> list[PlannedTrial]:
    """All trials of a study, every teacher before its students, rows in the order of the spec."""
    teachers: dict[str, PlannedTrial] = {}
    students: list[PlannedTrial] = []
    for row, title, arm, values in _rows(study):
        uses = tuple(use.resolved() for use in arm.uses())
        teacher = None
        if uses:
            teaches = arm.teacher or study.teacher
            assert teaches is not None
            teacher = _teacher(study, teaches)
            teachers.setdefault(teacher.id, teacher)
        network = _sized(study, arm.student or study.student, "student")
        for seed in study.seeds:
            students.append(
                PlannedTrial(
                    id=f"{row}/seed-{seed}",
                    row=row,
                    title=title,
                    role="distilled" if uses else "baseline",
                    network=network,
                    schedule=arm.schedule.over(study.schedule)
                    .as_methods_state(uses, study.scale)
                    .resolved(study.scale, network, study.dataset),
                    seed=seed,
                    teacher=teacher.id if teacher else None,
                    distillers=uses,
                    values=values,
                )
            )
    return [*teachers.values(), *students]


def _teacher(study: StudySpec, teacher: Teacher) -> PlannedTrial:
    network = _sized(study, teacher, "teacher")
    schedule = teacher.schedule.over(study.schedule).resolved(study.scale, network, study.dataset)
    row = "-".join(filter(None, ("teacher", network.detector, network.form, network.backbone)))
    for name, value in teacher.schedule.model_dump(exclude_none=True).items():  # two teachers of a study must not share a row
        row += f"-{value}e" if name == "epochs" else f"-{value}" if name == "recipe" else f"-{name}{value}"
    weights = teacher.weights if study.scale == "paper" else None
    if weights:
        row += f"-{weights.replace('/', '-')}"
    return PlannedTrial(
        id=f"{row}/seed-{teacher.seed}",
        row=row,
        title=f"teacher: {DETECTORS[network.detector].title} {BACKBONES[network.backbone].title}"
        + (f" ({network.form})" if network.form else ""),
        role="teacher",
        network=network,
        schedule=schedule,
        seed=teacher.seed,
        teacher=None,
        distillers=(),
        weights=weights,
    )


def batch_warning(title: str, use: MethodUse, schedule: Schedule, gpus: int) -> str | None:
    """One sentence where a loss that grows with the batch is used with another batch than its weight is stated for, else None.

    use: with its options resolved. schedule: resolved. gpus: of one trial, over which a batch is spread.
    """
    method = methods().get(use.id)
    if method is None or method.reference_images_per_gpu is None or schedule.batch_size is None:
        return None
    form = method.form_of(method.options.model_validate(use.options))
    images = schedule.images_at_once / max(1, gpus)
    if form == "mean" or images == method.reference_images_per_gpu:
        return None
    grows = "is summed over the batch" if form == "sum" else "grows like the root of the batch"
    return (
        f"{title}: the loss of {method.title} {grows}, and its weight is stated for {method.reference_images_per_gpu} images per device; "
        f"here are {images:g}"
    )


def warnings(study: StudySpec) -> list[str]:
    """What a person should know of a study that is valid all the same, a sentence each."""
    told: dict[str, None] = {}  # in order, each once
    for trial in expand(study):
        for use in trial.distillers:
            sentence = batch_warning(trial.title, use, trial.schedule, study.resources.gpus)
            if sentence:
                told[sentence] = None
    return list(told)


def _sized(study: StudySpec, network: Network, role: str) -> Network:
    own = NANO_WIDTH[role] // channels_of(network.form)  # what a form multiplies
    width = None if study.scale == "paper" else network.width or own
    return Network(detector=network.detector, backbone=network.backbone, width=width, form=network.form)


def _rows(study: StudySpec) -> list[tuple[str, str, Arm, tuple[tuple[str, Any], ...]]]:
    """(row id, printed title, arm with its sampled values set, those values) in the order of the table."""
    rows: list[tuple[str, str, Arm, tuple[tuple[str, Any], ...]]] = []
    for arm in study.arms:
        title = arm.title or arm.id
        search = study.search
        if search is None or not (arm.id in search.arms if search.arms else arm.distiller):
            rows.append((arm.id, title, arm, ()))
            continue
        for values in combinations(search):
            told = ", ".join(f"{path.rsplit('.', 1)[-1]}={value}" for path, value in values.items())
            rows.append((f"{arm.id}[{told}]", f"{title} [{told}]", with_values(arm, values), tuple(values.items())))
    return rows


def combinations(search: Search) -> list[dict[str, Any]]:
    """The sampled values: all of the grid, times `trials` distinct draws of the choices."""
    grids = {path: way["grid"] for path, way in search.space.items() if "grid" in way}
    choices = {path: way["choice"] for path, way in search.space.items() if "choice" in way}
    gridded = [dict(zip(grids, values, strict=True)) for values in itertools.product(*grids.values())]
    if not choices:
        return gridded
    every = list(itertools.islice(itertools.product(*choices.values()), 100_000))
    drawn = random.Random(search.seed).sample(every, min(search.trials or 1, len(every)))
    return [{**point, **dict(zip(choices, values, strict=True))} for point in gridded for values in drawn]


def with_values(arm: Arm, values: dict[str, Any]) -> Arm:
    """The arm with sampled values in place. Raises pydantic's ValidationError where one does not fit its field."""
    data = arm.model_dump(exclude_unset=True)
    for path, value in values.items():
        *folders, leaf = path.split(".")
        target = data
        for folder in folders:
            target = target.setdefault(folder, {})
        target[leaf] = value
    return Arm.model_validate(data)
