"""What a study would run, before anything runs: its trials with their keys, what is reused, and what it costs.

Imports neither torch nor ray nor `workers`, so that the service can answer in milliseconds.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.machine import TrialState
from orchestrator.schema import Arm, Trial
from orchestrator.store import Store
from studies.code import code_version
from studies.expand import PlannedTrial
from studies.planned_measures import PlannedMeasurement
from studies.spec import MethodUse, Network, Schedule, StudySpec
from studies.submission import Submission
from studies.trial import TeacherRef, TrialSpec


@dataclass(frozen=True)
class Step:
    """One trial of a plan. `key`: None while its teacher or the dataset is not made. `reuses`: an equal finished trial serves."""

    trial: PlannedTrial
    key: str | None
    reuses: bool
    seconds: float | None  # estimated time on its devices; 0 when reused, None when nothing comparable was trained


@dataclass(frozen=True)
class Plan:
    """A study before it runs. Every teacher comes before its students."""

    steps: list[Step]
    devices: int  # per trial: GPUs, or CPUs where it uses none
    device: str  # "gpu" or "cpu"
    measurements: int = 0  # jobs that measure what the trials have trained

    @property
    def to_run(self) -> int:
        return sum(not step.reuses for step in self.steps)

    @property
    def unknown(self) -> int:
        """Trials whose time cannot be estimated."""
        return sum(step.seconds is None for step in self.steps)

    @property
    def device_seconds(self) -> float:
        """Estimated device time of the trials that can be estimated."""
        return sum(step.seconds or 0.0 for step in self.steps) * self.devices


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
    study = submission.spec
    digest = store.dataset_digest(study.dataset)
    history = store.history(study.dataset, study.scale)
    version = functools.cache(code_version)
    done: dict[str, Trial] = {}  # planned trial id -> the equal finished trial
    steps = []
    for planned in submission.expansion.trials:
        spec = _resolve(study, planned, done)
        key = spec.key(digest, version(spec.methods)) if spec and digest else None
        equal = store.finished_trial(key) if key and not study.force else None
        if equal:
            done[planned.id] = equal
        steps.append(Step(planned, key, equal is not None, 0.0 if equal else estimate(study, planned, history)))
    device = "gpu" if study.resources.gpus else "cpu"
    return Plan(steps, study.resources.gpus or study.resources.cpus, device, len(submission.expansion.measurements))


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


def estimate(study: StudySpec, planned: PlannedTrial, history: Sequence[Trial]) -> float | None:
    """Seconds of one training, from `history` (trials of the same dataset and scale): the mean of those with the same network, schedule,
    devices and distillers, else of those that differ only in the distillers, else None."""
    wanted = (planned.network.detector, planned.network.backbone, planned.schedule.model_dump(mode="json"))
    devices = (study.resources.cpus, study.resources.gpus)
    alike = [
        (trial.seconds, [use["id"] for use in spec["distillers"]])
        for trial in history
        if trial.seconds is not None and (spec := trial.spec) is not None
        if (spec["network"]["detector"], spec["network"]["backbone"], spec["schedule"]) == wanted
        and (spec["threads"], spec["gpus"]) == devices
    ]
    same = [seconds for seconds, used in alike if used == [use.id for use in planned.distillers]]
    chosen = same or [seconds for seconds, _ in alike]
    return sum(chosen) / len(chosen) if chosen else None
