"""What studies would run, before anything runs: their trials with their keys, what is reused, and what it costs.

Imports neither torch nor ray nor `workers`, so that the service can answer in milliseconds.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.machine import TrialState
from orchestrator.records.schema import Arm, Trial
from orchestrator.records.store import Store
from studies.code import code_version
from studies.costs import GPUS, Gpu, evaluation_flop, gpu_named, training_flop
from studies.datasets import datasets
from studies.expand import PlannedTrial
from studies.planned_measures import PlannedMeasurement
from studies.spec import MethodUse, Network, Resources, Schedule, StudySpec
from studies.submission import Submission
from studies.trial import TeacherRef, TrialSpec

Basis = Literal["measured", "estimated"]


@dataclass(frozen=True)
class Measured:
    """The mean time of finished trials that are like a planned one. gpu: the kind they ran on, None for a CPU or an unlisted kind."""

    seconds: float
    gpu: Gpu | None


@dataclass(frozen=True)
class Step:
    """One trial of a plan. `key`: None while its teacher or the dataset is not made. `reuses`: an equal finished trial serves."""

    trial: PlannedTrial
    key: str | None
    reuses: bool
    devices: int  # of the trial: GPUs, or CPUs where it uses none
    measured: Measured | None  # None where nothing comparable was trained
    flop: float | None  # by its multiply-adds; None for a CPU, below paper scale, and where something was not counted

    @property
    def seconds(self) -> float | None:
        """Measured time on its devices; 0 when reused, None when nothing comparable was trained."""
        return 0.0 if self.reuses else self.measured.seconds if self.measured else None

    @property
    def evaluates(self) -> bool:
        """Whether it takes weights as they are, and evaluates them instead of training."""
        return self.trial.weights is not None

    @property
    def basis(self) -> Basis | None:
        """Where its device time is from; None when it is unknown, or nothing runs."""
        if self.reuses:
            return None
        estimated = self.flop is not None and not (self.measured and self.measured.gpu)
        return "estimated" if estimated else "measured" if self.measured else None

    @property
    def gpu_hours(self) -> dict[str, float] | None:
        """Device-hours by kind of GPU: measured on one of them, else estimated; None when unknown."""
        if self.reuses:
            return dict.fromkeys(GPUS, 0.0)
        flop = self.flop
        if self.measured and self.measured.gpu:
            flop = self.measured.seconds * self.devices * self.measured.gpu.rate
        return None if flop is None else {gpu.id: flop / gpu.rate / 3600 for gpu in GPUS.values()}


@dataclass(frozen=True)
class Plan:
    """A study before it runs. Every teacher comes before its students."""

    steps: list[Step]
    device: Literal["gpu", "cpu"]

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
    def unknown(self) -> int:
        """Trials whose time cannot be told."""
        return self.to_run - self.based_on("measured") - self.based_on("estimated")

    def based_on(self, basis: Basis) -> int:
        """Trials to run whose time is measured, or estimated."""
        return sum(step.basis == basis for step in self.steps)

    @property
    def device_seconds(self) -> float:
        """Device time of the trials that were measured, on the devices they were measured on."""
        return sum((step.seconds or 0.0) * step.devices for step in self.steps)

    @property
    def gpu_hours(self) -> dict[str, float]:
        """Device-hours by kind of GPU of all trials whose time is known; empty for a study on CPUs."""
        known = [hours for step in self.steps if (hours := step.gpu_hours)] if self.device == "gpu" else None
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
    """The plans of several studies that run one after the other; a trial that two of them have counts for the first."""
    seen: set[str] = set()
    shares = []
    for submission, whole in zip(submissions, plans(submissions, store), strict=True):
        known = submission.expansion.identities
        left = [step for step in whole.steps if submission.spec.force or known[step.trial.id] not in seen]
        seen |= set(known.values())
        shares.append(Share(whole, Plan(left, whole.device)))
    return shares


def plans(submissions: Sequence[Submission], store: Store) -> list[Plan]:
    """The plan of each study alone, with few queries for all of them."""
    stored = _Stored(store)
    keys: list[dict[str, str]] = [{} for _ in submissions]  # of each study: planned trial -> trial key
    equals: dict[str, Trial] = {}  # trial key -> the finished trial that serves
    for taught in (False, True):  # the key of a student needs its teacher's checkpoint
        for submission, mine in zip(submissions, keys, strict=True):
            finished = {name: equals[key] for name, key in mine.items() if key in equals}
            for planned in submission.expansion.trials:
                if (planned.teacher is not None) == taught and (key := stored.key(submission.spec, planned, finished)):
                    mine[planned.id] = key
        equals |= store.finished_trials({key for mine in keys for key in mine.values()} - equals.keys())
    return [_plan(submission, mine, equals, stored) for submission, mine in zip(submissions, keys, strict=True)]


def _plan(submission: Submission, keys: dict[str, str], equals: dict[str, Trial], stored: "_Stored") -> Plan:
    study = submission.spec
    networks = {planned.id: planned.network for planned in submission.expansion.trials}
    steps = []
    for planned in submission.expansion.trials:
        key = keys.get(planned.id)
        teacher = networks[planned.teacher] if planned.teacher else None
        steps.append(
            Step(
                trial=planned,
                key=key,
                reuses=key in equals and not study.force,
                devices=study.resources.gpus or study.resources.cpus * study.resources.workers,
                measured=stored.measured(study, planned),
                flop=stored.flop(study, planned, teacher),
            )
        )
    return Plan(steps, "gpu" if study.resources.gpus else "cpu")


class _Stored:
    """What plans ask again and again, looked up once."""

    def __init__(self, store: Store) -> None:
        self._history = functools.cache(store.history)
        self._measured = functools.cache(self._look_back)
        self._digest = functools.cache(store.dataset_digest)
        self._version = functools.cache(code_version)
        self._datasets = datasets()

    def key(self, study: StudySpec, planned: PlannedTrial, finished: dict[str, Trial]) -> str | None:
        """The trial's key, None while its teacher or the dataset is not made. finished: equal finished trials, by the planned ones."""
        digest = self._digest(study.dataset)
        spec = _resolve(study, planned, {} if study.force else finished) if digest else None
        return spec.key(digest, self._version(spec.methods)) if spec and digest else None

    def measured(self, study: StudySpec, planned: PlannedTrial) -> Measured | None:
        """The time of trials like it, None where there are none."""
        uses = tuple(use.id for use in planned.distillers)
        return self._measured(study.dataset, study.scale, study.resources, planned.network, planned.schedule, planned.weights, uses)

    def _look_back(self, dataset: str, scale: str, *like: Any) -> Measured | None:
        return measured(self._history(dataset, scale), *like)

    def flop(self, study: StudySpec, planned: PlannedTrial, teacher: Network | None) -> float | None:
        """FLOP of a trial at paper scale on GPUs by its multiply-adds, else None."""
        dataset = self._datasets.get(study.dataset)
        if study.scale != "paper" or not study.resources.gpus or dataset is None:
            return None
        if planned.weights:
            return evaluation_flop(planned.network, dataset)
        return training_flop(planned.network, planned.schedule, teacher, dataset)


def _resolve(study: StudySpec, planned: PlannedTrial, done: dict[str, Trial]) -> TrialSpec | None:
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


def measured(
    history: Sequence[Trial], resources: Resources, network: Network, schedule: Schedule, weights: str | None, uses: tuple[str, ...]
) -> Measured | None:
    """Time of a trial, from `history` (trials of the same dataset and scale, newest first): the mean of those with the same network,
    schedule, devices and distillers (`uses`), else of those that differ only in the distillers, else None. Trials on another kind of
    device than the newest are left out."""
    wanted = (network.model_dump(), schedule.model_dump(mode="json"), weights)
    alike = [
        (trial.seconds, str((trial.environment or {}).get("device", "")), tuple(use["id"] for use in spec["distillers"]))
        for trial in history
        if trial.seconds is not None and (spec := trial.spec) is not None
        if (spec["threads"], spec["gpus"], spec.get("workers", 1)) == (resources.cpus, resources.gpus, resources.workers)
        and ({"form": None, "width": None} | spec["network"], spec["schedule"], spec.get("weights")) == wanted
    ]
    chosen = [each for each in alike if each[2] == uses] or alike
    if not chosen:
        return None
    device = chosen[0][1]
    seconds = [took for took, where, _ in chosen if where == device]
    return Measured(sum(seconds) / len(seconds), gpu_named(device) if resources.gpus else None)
