"""From a study to its trials: arms x sampled values x seeds, teachers first. Pure: no stored results, no devices."""

import hashlib
import itertools
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from studies.catalog import AS_CONFIGURED, BACKBONES, channels_of, family_of
from studies.measures import KINDS
from studies.methods import methods
from studies.methods.base import device_shares
from studies.planned_measures import Measurable, PlannedMeasurement, measured_by, measures_of, misfit, planned_measurements
from studies.presentation import Role
from studies.recipes import NANO_WIDTH
from studies.space import arm_with, fresh_seeds, label, told
from studies.spec import Arm, MethodUse, Network, Schedule, Search, StudyNetwork, StudySpec, Teacher
from studies.trial import Setting, TeacherRef, TrialSpec


@dataclass(frozen=True)
class PlannedTrial:
    """One training of a study before it has an identity.

    id: unique in the study and readable ("fitnet/seed-0", "teacher/gfl-resnet34/seed-0").
    row: id of the planned row it was made for. teacher: id of the planned trial whose checkpoint this one needs, or None.
    """

    id: str
    row: str
    title: str
    role: Role
    network: Network
    schedule: Schedule
    seed: int
    teacher: str | None
    distillers: tuple[MethodUse, ...]
    weights: str | None = None  # trained weights that are taken instead of a training
    init: str | None = None  # weights that it starts from, where the study says them

    def resolve(self, study: StudySpec | Setting, teacher: TeacherRef | None) -> TrialSpec:
        """The trainable spec; `teacher` is given exactly when this trial needs one."""
        if (teacher is None) != (self.teacher is None):
            raise ValueError(f"{self.id}: teacher {'missing' if teacher is None else 'not wanted'}")
        return TrialSpec(
            dataset=study.dataset,
            scale=study.scale,
            network=self.network,
            schedule=self.schedule,
            seed=self.seed,
            threads=study.resources.threads,
            gpus=study.resources.visible_gpus,
            workers=study.resources.workers,
            teacher=teacher,
            distillers=list(self.distillers),
            on_broken=study.on_broken,
            precision=study.precision,
            weights=self.weights,
            init=self.init,
        )


@dataclass(frozen=True)
class PlannedRow:
    """Trials that differ in the seed alone: an arm (with its sampled values) or a teacher.

    id: arm id, behind a tilde the number of its sampled values ("ld~2"), or "teacher/" and a name. teacher: id of its teacher's row.
    trials: ids, in the order of the seeds; a trial that is equal to one of an earlier row is that one.
    values: sampled, by path, of a searched arm. weights: those that it is taken with instead of trained.
    """

    id: str
    title: str
    role: Role
    network: Network
    schedule: Schedule
    distillers: tuple[MethodUse, ...]
    teacher: str | None
    trials: tuple[str, ...]
    values: tuple[tuple[str, Any], ...] = ()
    weights: str | None = None


@dataclass(frozen=True)
class Expansion:
    """A study's rows, teachers first, and its trials: every teacher before its students, and no two that are equal.

    identities: of each trial by its id, equal for equal trainings of all studies; unlike a trial key it knows no data, code or checkpoint.
    measurements: of these trials. compared: id of the teacher's trial that a row's D_pred is measured with, by row id.
    """

    rows: list[PlannedRow]
    trials: list[PlannedTrial]
    identities: dict[str, str]
    measurements: list[PlannedMeasurement] = field(default_factory=list)
    compared: dict[str, str] = field(default_factory=dict)

    def measured_by(self, row: PlannedRow) -> tuple[str, ...]:
        """Ids of the measurements that complete a row's metrics."""
        return measured_by(row, self.compared.get(row.id), self.measurements)

    def trial(self, row: str, seed: int) -> PlannedTrial | None:
        """The trial of a row and seed, None where there is none."""
        mine = next((each.trials for each in self.rows if each.id == row), ())
        return next((trial for trial in self.trials if trial.id in mine and trial.seed == seed), None)


def expand(study: StudySpec) -> Expansion:
    """All rows and trials of a study, rows in the order of the spec; of an arm whose values are drawn while it runs, its default."""
    return Expander(study).expansion()


class Origin(NamedTuple):
    """Weights of the store that a network is taken with, or starts from; None: it trains, from what its recipe says."""

    weights: str | None
    init: str | None


@dataclass(frozen=True)
class Grown:
    """What a study gets while it runs. row: with the ids of its trials, of which some may have been there before. rows, trials: new ones,
    every teacher before its students. measurements: of the new trials."""

    row: PlannedRow
    rows: list[PlannedRow]
    trials: list[PlannedTrial]
    measurements: list[PlannedMeasurement] = field(default_factory=list)
    compared: str | None = None  # id of the teacher's trial that the row's D_pred is measured with

    @property
    def measured_by(self) -> tuple[str, ...]:
        """Ids of the measurements that complete the row's metrics."""
        return measured_by(self.row, self.compared, self.measurements)


class Expander:
    """Gathers the trials of a study, each once: those that are known from the beginning, then those of combinations as they are drawn."""

    def __init__(self, study: StudySpec) -> None:
        self.study = study
        self.trials: dict[str, PlannedTrial] = {}  # by identity
        self.teachers: dict[str, PlannedRow] = {}  # by the identity of its trial
        self.rows: list[PlannedRow] = []
        self.identities: dict[str, str] = {}  # by the id of the trial

    def expansion(self) -> Expansion:
        planned = [(row, arm, values, self._taught_by(arm)) for row, arm, values in _rows(self.study)]
        for row, arm, values, teacher in planned:
            self._arm_row(row, arm, values, teacher, self._seeds(arm))
        known = [Measurable(made, self._compared(made, arm)) for made, (_, arm, *_) in zip(self.rows, planned, strict=True)]
        teachers = [Measurable(row, None) for row in self.teachers.values()]
        compared = {each.row.id: each.teacher.trials[0] for each in known if each.teacher}
        measurements = planned_measurements(self.study, [*teachers, *known])
        rows = [*self.teachers.values(), *self.rows]
        return Expansion(rows, list(self.trials.values()), self.identities, measurements, compared)

    def tried(self, arm: Arm, number: int, values: dict[str, Any]) -> Grown:
        """A combination that a search tries, on the study's seeds; its trainings are measured by no jobs of their own."""
        return self._grown(f"{arm.id}~{number}", arm, values, self.study.seeds)

    def confirmed(self, arm: Arm, number: int, values: dict[str, Any]) -> Grown:
        """A combination that a search found, on fresh seeds."""
        grown = self._grown(f"{arm.id}~best-{number}", arm, values, fresh_seeds(self.study))
        teacher = next((row for row in self.teachers.values() if row.id == grown.row.teacher), None)
        measurements = planned_measurements(self.study, [Measurable(grown.row, teacher)])
        return replace(grown, measurements=measurements, compared=teacher.trials[0] if teacher else None)

    def _grown(self, row: str, arm: Arm, values: dict[str, Any], seeds: Sequence[int]) -> Grown:
        rows, trials = len(self.teachers), len(self.trials)
        sampled = arm_with(self.study, arm, values)
        made = self._arm_row(row, sampled, tuple(values.items()), self._taught_by(sampled), seeds)
        return Grown(made, [*list(self.teachers.values())[rows:], made], list(self.trials.values())[trials:])

    def _seeds(self, arm: Arm) -> Sequence[int]:
        """The study's seeds, and those that a search confirms with: these alone for an arm that is searched."""
        search, fresh = self.study.search, fresh_seeds(self.study)
        return fresh if search and fresh and searched(search, arm) else [*self.study.seeds, *fresh]

    def _arm_row(
        self, row: str, arm: Arm, values: tuple[tuple[str, Any], ...], teacher: PlannedRow | None, seeds: Sequence[int]
    ) -> PlannedRow:
        uses = _settled(self.study, arm)
        said = arm.student or self.study.student
        network = _sized(self.study, said, "student")
        stated = arm.schedule.over(self.study.schedule).as_methods_state(uses, self.study.scale)
        schedule = stated.resolved(self.study.scale, network, self.study.dataset)
        title = (arm.title or arm.id) + _beside(self.study, arm, values)
        role: Role = "distilled" if uses else "baseline"
        made = self._row(row, title, role, network, self._origin(said), schedule, uses, teacher, seeds, values)
        self.rows.append(made)
        return made

    def _compared(self, row: PlannedRow, arm: Arm) -> PlannedRow | None:
        """The row of the teacher that is known for an arm; one that teaches nobody is trained where a measurement needs it."""
        teacher = arm.teacher or self.study.teacher
        if teacher is None:
            return None
        wanted = (m for m in measures_of(self.study) if m.arms is None or arm.id in m.arms)
        needed = any(KINDS[m.kind].teacher == "needed" and not misfit(m, row.network, teacher, row.distillers) for m in wanted)
        return self._teacher_row(teacher, arm, make=needed)

    def _taught_by(self, arm: Arm) -> PlannedRow | None:
        """The row of an arm's teacher."""
        teacher = arm.teacher or self.study.teacher
        return self._teacher_row(teacher, arm, make=True) if arm.uses() and teacher else None

    def _teacher_row(self, teacher: Teacher, arm: Arm, make: bool) -> PlannedRow | None:
        """The row of an arm's teacher, None where it is not there and not to be made; two teachers that differ in anything are two.

        One that is its student's own network trains as the student does, as self-distillation has it.
        """
        network = _sized(self.study, teacher, "teacher")
        teaches = network != _sized(self.study, arm.student or self.study.student, "student")
        schedule = teacher.schedule.over(self.study.schedule).resolved(self.study.scale, network, self.study.dataset, teaches)
        origin = self._origin(teacher)
        identity = self._identity(network, origin, schedule, (), None, teacher.seed)
        if identity not in self.teachers and make:
            name = "teacher/" + "-".join(filter(None, (network.detector, network.form, network.backbone)))
            alike = sum(row.id == name or row.id.startswith(f"{name}~") for row in self.teachers.values())
            title = f"teacher: {family_of(network.detector).title} {BACKBONES[network.backbone].title}"
            title += f" ({network.form})" if network.form else ""
            row = f"{name}~{alike + 1}" if alike else name
            self.teachers[identity] = self._row(row, title, "teacher", network, origin, schedule, (), None, [teacher.seed])
        return self.teachers.get(identity)

    def _origin(self, network: StudyNetwork) -> Origin:
        return Origin(network.taken_with(self.study.scale), network.starts_from(self.study.scale))

    def _row(
        self,
        row: str,
        title: str,
        role: Role,
        network: Network,
        origin: Origin,
        schedule: Schedule,
        uses: tuple[MethodUse, ...],
        teacher: PlannedRow | None,
        seeds: Sequence[int],
        values: tuple[tuple[str, Any], ...] = (),
    ) -> PlannedRow:
        taught_by, taught = (teacher.trials[0], self.identities[teacher.trials[0]]) if teacher else (None, None)
        trials = []
        for seed in seeds:
            identity = self._identity(network, origin, schedule, uses, taught, seed)
            made = PlannedTrial(f"{row}/seed-{seed}", row, title, role, network, schedule, seed, taught_by, uses, *origin)
            trials.append(self.trials.setdefault(identity, made).id)
            self.identities[trials[-1]] = identity
        return PlannedRow(row, title, role, network, schedule, uses, teacher.id if teacher else None, tuple(trials), values, origin.weights)

    def _identity(
        self, network: Network, origin: Origin, schedule: Schedule, uses: tuple[MethodUse, ...], teacher: str | None, seed: int
    ) -> str:
        """What decides the numbers of a training, as sha256 (hex); `teacher`: the identity of its teacher's trial."""
        study = self.study
        devices = study.resources.model_dump(exclude={"group", *(["workers"] if study.resources.workers == 1 else [])})
        setting = [study.dataset, study.scale, devices]
        methods = [use.model_dump(mode="json") for use in uses]
        content = [setting, network.model_dump(), schedule.model_dump(mode="json"), methods, teacher, origin.weights, seed]
        content += [origin.init] if origin.init else []
        content += [{"precision": study.precision}] if study.precision != "fp32" else []
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def batch_warning(title: str, use: MethodUse, schedule: Schedule, processes: int, trained: int | None = None) -> str | None:
    """One sentence where a loss that depends on the images of a device takes another number at a time than published, else None.

    use: resolved. schedule: resolved. processes: that train one trial, over which a batch is spread. trained: images that a device had
    where this row was published; None: those of the method's own publication.
    """
    method = methods().get(use.id)
    if method is None or use.per_device_images is None:
        return None
    published = trained or method.per_device_images_of(method.options.model_validate(use.options))
    on_a_device = schedule.images_at_once / processes
    shares = {
        share
        for images in (math.floor(on_a_device), math.ceil(on_a_device))
        for share in device_shares(max(1, images), use.per_device_images)
    }
    if shares == {published}:
        return None
    return (
        f"{title}: the loss of {method.title} depends on how many images a device has: {published} where it was published, "
        f"here {' or '.join(map(str, sorted(shares)))}"
    )


def _settled(study: StudySpec, arm: Arm) -> tuple[MethodUse, ...]:
    """The distillers of an arm with every option spelled out, in one order whatever order they are said in."""
    student, teacher = arm.student or study.student, arm.teacher or study.teacher
    if teacher is None:
        return ()
    return tuple(sorted((use.resolved(student.family, teacher.family) for use in arm.uses()), key=lambda use: use.id))


def _sized(study: StudySpec, network: Network, role: str) -> Network:
    own = NANO_WIDTH[role] // channels_of(network.form)  # what a form multiplies
    width = None if study.scale == "paper" or network.backbone == AS_CONFIGURED else network.width or own
    return Network(detector=network.detector, backbone=network.backbone, width=width, form=network.form)


def _rows(study: StudySpec) -> list[tuple[str, Arm, tuple[tuple[str, Any], ...]]]:
    """(row id, arm with its sampled values set, those values) in the order of the table."""
    rows: list[tuple[str, Arm, tuple[tuple[str, Any], ...]]] = []
    for arm in study.arms:
        search = study.search
        if search is None or search.algorithm or not searched(search, arm):
            rows.append((arm.id, arm, ()))
            continue
        for number, values in enumerate(combinations(search), start=1):
            row = f"{arm.id}~{number}" if values else arm.id  # no other id has a tilde
            rows.append((row, arm_with(study, arm, values), tuple(values.items())))
    return rows


def _beside(study: StudySpec, arm: Arm, values: tuple[tuple[str, Any], ...]) -> str:
    """What a row's title says of its values."""
    search = study.search
    if search and search.algorithm:
        return f" [{told(dict(values))}]" if values else " (default)" if searched(search, arm) else ""
    named = ", ".join(f"{path.rsplit('.', 1)[-1]}={label(value)}" for path, value in values)
    return f" [{named}]" if named else ""


def searched(search: Search, arm: Arm) -> bool:
    """Whether an arm is one of those that are searched."""
    return arm.id in search.arms if search.arms else arm.distiller is not None


def combinations(search: Search) -> list[dict[str, Any]]:
    """The sampled values: all of the grid, times `trials` distinct draws of the choices; of a sweep the arm as it is, then one
    factor changed at a time."""
    sweeps = {path: way["sweep"] for path, way in search.space.items() if "sweep" in way}
    if sweeps:
        return [{}, *({path: value} for path, listed in sweeps.items() for value in listed)]
    grids = {path: way["grid"] for path, way in search.space.items() if "grid" in way}
    choices = {path: way["choice"] for path, way in search.space.items() if "choice" in way}
    gridded = [dict(zip(grids, values, strict=True)) for values in itertools.product(*grids.values())]
    if not choices:
        return gridded
    drawn = [_at(choices, number) for number in _draw(math.prod(map(len, choices.values())), search.trials or 1, search.seed)]
    return [{**point, **values} for point in gridded for values in drawn]


def _draw(count: int, wanted: int, seed: int) -> list[int]:
    """`wanted` different numbers below `count` (all where there are fewer), each as likely as any other."""
    generator, drawn = random.Random(seed), dict[int, None]()
    while len(drawn) < min(wanted, count):
        drawn[generator.randrange(count)] = None
    return list(drawn)


def _at(choices: dict[str, list[Any]], number: int) -> dict[str, Any]:
    """The combination of that number, of all there are."""
    values = {}
    for path, listed in choices.items():
        number, place = divmod(number, len(listed))
        values[path] = listed[place]
    return values
