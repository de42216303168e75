"""What studies would run, before anything runs: their trials with their keys, what is reused, and what it costs.

Imports neither torch nor ray nor `workers`, so that the service can answer in milliseconds.
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from orchestrator.estimates import Basis, Estimates, Job
from orchestrator.machine import TrialState
from orchestrator.records.schema import Arm, Trial
from orchestrator.records.store import Store
from studies.code import code_version
from studies.costs import GPUS
from studies.expand import PlannedTrial
from studies.measurement import measurement_code
from studies.planned_measures import PlannedMeasurement
from studies.spec import MethodUse, Network, Schedule, StudySpec
from studies.submission import Submission
from studies.trial import TeacherRef, TrialSpec


@dataclass(frozen=True)
class Step(Job):
    """One trial of a plan."""

    trial: PlannedTrial

    @property
    def evaluates(self) -> bool:
        """Whether it takes weights as they are, and evaluates them instead of training."""
        return self.trial.weights is not None


@dataclass(frozen=True)
class MeasureStep(Job):
    """One measurement of a plan."""

    measurement: PlannedMeasurement


@dataclass(frozen=True)
class Plan:
    """A study before it runs. Every teacher comes before its students; measurements come last."""

    steps: list[Step]
    measurements: list[MeasureStep]
    device: Literal["gpu", "cpu"]

    @property
    def jobs(self) -> Iterable[Job]:
        return chain(self.steps, self.measurements)

    @property
    def to_run(self) -> int:
        return sum(not step.reuses for step in self.steps)

    @property
    def to_evaluate(self) -> int:
        """Those of `to_run` that are evaluated, not trained."""
        return sum(not step.reuses and step.evaluates for step in self.steps)

    @property
    def to_train(self) -> int:
        return self.to_run - self.to_evaluate

    @property
    def to_measure(self) -> int:
        return sum(not step.reuses for step in self.measurements)

    @property
    def unknown(self) -> int:
        """Trials and measurements whose time cannot be told."""
        return self.to_run + self.to_measure - self.based_on("measured") - self.based_on("estimated")

    def based_on(self, basis: Basis) -> int:
        """Trials and measurements to run whose time is measured, or estimated."""
        return sum(job.basis == basis for job in self.jobs)

    @property
    def device_seconds(self) -> float:
        """Device time of the jobs whose likes were run, on the devices these ran on."""
        return sum((job.seconds or 0.0) * job.devices for job in self.jobs)

    @property
    def gpu_hours(self) -> dict[str, float]:
        """Device-hours by kind of GPU of all jobs whose time is known; empty for a study on CPUs."""
        known = [hours for job in self.jobs if (hours := job.gpu_hours)] if self.device == "gpu" else None
        return {} if known is None else {gpu: sum(hours[gpu] for hours in known) for gpu in GPUS}


@dataclass(frozen=True)
class Share:
    """A study of several: its own plan, and of it what is left beside the studies before it."""

    plan: Plan
    left: Plan

    @property
    def shared(self) -> int:
        """Trials that a study before it has too."""
        return len(self.plan.steps) - len(self.left.steps)


def planned_from(trial: Trial, arm: Arm) -> PlannedTrial:
    """A stored trial as it was planned when its study was made. Raises ValueError where it names what the catalogue no longer has."""
    detail = arm.detail
    return PlannedTrial(
        id=trial.name,
        row=arm.name,
        title=arm.title,
        role=arm.role,  # type: ignore[arg-type]
        network=Network.model_validate(detail["network"]),
        schedule=Schedule.model_validate(detail["schedule"]),
        seed=trial.seed,
        teacher=trial.teacher,
        distillers=tuple(MethodUse.model_validate(use) for use in detail["distillers"]),
        weights=detail.get("weights"),
        init=detail.get("init"),
    )


def measurement_from(trial: Trial, arm: Arm) -> PlannedMeasurement:
    """A stored measurement as it was planned. Raises ValueError where it names what the catalogue no longer has."""
    content = trial.measurement
    assert content is not None
    return PlannedMeasurement(
        id=trial.name,
        title=trial.title,
        kind=content["kind"],
        row=arm.name,
        seed=trial.seed,
        detector=content["detector"],
        teacher=trial.teacher,
        options=content["options"],
        distillers=tuple(MethodUse.model_validate(use) for use in content["distillers"]),
    )


def plan(submission: Submission, store: Store) -> Plan:
    """The plan of a study against what this Retort has stored."""
    return plans([submission], store)[0]


def together(submissions: Sequence[Submission], store: Store) -> list[Share]:
    """The plans of several studies that run one after the other; a job that two of them have counts for the first."""
    seen: set[str] = set()
    shares = []
    for submission, whole in zip(submissions, plans(submissions, store), strict=True):
        known = submission.expansion.identities
        measured = {step.measurement.id: _identity(step.measurement, known) for step in whole.measurements}
        left = [step for step in whole.steps if submission.spec.force or known[step.trial.id] not in seen]
        to_measure = [step for step in whole.measurements if submission.spec.force or measured[step.measurement.id] not in seen]
        seen |= {*known.values(), *measured.values()}
        shares.append(Share(whole, Plan(left, to_measure, whole.device)))
    return shares


def _identity(planned: PlannedMeasurement, trainings: Mapping[str, str]) -> str:
    """What decides the numbers of a measurement, equal for equal ones of all studies. trainings: identities by the id of the trial."""
    methods = [use.model_dump(mode="json") for use in planned.distillers]
    teacher = trainings[planned.teacher] if planned.teacher else None
    return json.dumps([planned.kind, trainings[planned.detector], teacher, planned.options, methods], sort_keys=True)


def plans(submissions: Sequence[Submission], store: Store) -> list[Plan]:
    """The plan of each study alone, with few queries for all of them."""
    keys = _Keys(store)
    of_study: list[dict[str, str]] = [{} for _ in submissions]  # planned job -> its key
    equals: dict[str, Trial] = {}  # key -> the finished job that serves
    for stage in (_teachers, _students, _measurements):  # the key of each stage needs the checkpoints of those before
        asked: set[str] = set()
        for submission, mine in zip(submissions, of_study, strict=True):
            finished = {name: equals[key] for name, key in mine.items() if key in equals}
            found = {job.id: key for job in stage(submission) if (key := keys.key(submission.spec, job, finished))}
            mine |= found
            asked |= set(found.values())
        equals |= store.finished_trials(asked)
    estimates = Estimates(store)
    return [_plan(submission, mine, equals, estimates) for submission, mine in zip(submissions, of_study, strict=True)]


def _teachers(submission: Submission) -> Iterable[PlannedTrial]:
    """The trials that need no teacher: teachers and baselines."""
    return (trial for trial in submission.expansion.trials if trial.teacher is None)


def _students(submission: Submission) -> Iterable[PlannedTrial]:
    return (trial for trial in submission.expansion.trials if trial.teacher is not None)


def _measurements(submission: Submission) -> Iterable[PlannedMeasurement]:
    return submission.expansion.measurements


def _plan(submission: Submission, keys: Mapping[str, str], equals: Mapping[str, Trial], estimates: Estimates) -> Plan:
    study = submission.spec
    trials = {planned.id: planned for planned in submission.expansion.trials}
    devices = study.resources.gpus or study.resources.cpus

    def reuses(job: str) -> bool:
        return keys.get(job) in equals and not study.force

    def network(trial: str | None) -> Network | None:
        return trials[trial].network if trial else None

    steps = [
        Step(
            key=keys.get(planned.id),
            reuses=reuses(planned.id),
            devices=devices,
            measured=estimates.measured(study, planned),
            flop=estimates.flop(study, planned, network(planned.teacher)),
            trial=planned,
        )
        for planned in trials.values()
    ]
    measurements = [
        MeasureStep(
            key=keys.get(planned.id),
            reuses=reuses(planned.id),
            devices=devices,
            measured=estimates.measured_measurement(study, planned, trials[planned.detector], network(planned.teacher)),
            flop=estimates.measurement_flop(study, planned, trials[planned.detector], network(planned.teacher)),
            measurement=planned,
        )
        for planned in submission.expansion.measurements
    ]
    return Plan(steps, measurements, "gpu" if study.resources.gpus else "cpu")


class _Keys:
    """Keys of planned jobs, with what they ask again and again looked up once."""

    def __init__(self, store: Store) -> None:
        self._digest = functools.cache(store.dataset_digest)
        self._version = functools.cache(code_version)
        self._measurement_code = functools.cache(measurement_code)

    def key(self, study: StudySpec, planned: PlannedTrial | PlannedMeasurement, finished: Mapping[str, Trial]) -> str | None:
        """Its key, None while what it needs or the dataset is not made. finished: equal finished trials, by the planned ones."""
        digest = self._digest(study.dataset)
        done = {} if study.force else finished
        if digest is None:
            return None
        if isinstance(planned, PlannedTrial):
            spec = _resolve(study, planned, done)
            return spec.key(digest, self._version(spec.methods)) if spec else None
        if any(needed not in done for needed in (planned.detector, planned.teacher) if needed):
            return None
        detector = done[planned.detector]
        teacher = teacher_ref(done[planned.teacher]) if planned.teacher else None
        schedule = Schedule.model_validate((detector.spec or {})["schedule"])
        measurement = planned.resolve(study, teacher_ref(detector), teacher, schedule)
        code = self._measurement_code(measurement.kind, tuple(sorted(use.id for use in measurement.distillers)))
        return measurement.key(digest, code)


def _resolve(study: StudySpec, planned: PlannedTrial, done: Mapping[str, Trial]) -> TrialSpec | None:
    """The trial's spec, or None while its teacher has no checkpoint."""
    if planned.teacher is None:
        return planned.resolve(study, None)
    teacher = done.get(planned.teacher)
    return planned.resolve(study, teacher_ref(teacher)) if teacher else None


def teacher_ref(teacher: Trial) -> TeacherRef:
    """What a student needs of its finished (or cached) teacher, and a measurement of what it measures."""
    if not (
        teacher.state in (TrialState.FINISHED, TrialState.CACHED) and teacher.spec and teacher.checkpoint and teacher.checkpoint_sha256
    ):
        raise ValueError(f"trial {teacher.name} has no checkpoint, it is {teacher.state}")
    network = Network.model_validate(teacher.spec["network"])
    return TeacherRef(network=network, checkpoint=teacher.checkpoint, sha256=teacher.checkpoint_sha256)
