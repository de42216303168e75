"""How long a planned job takes: by the finished jobs that are like it, and by multiply-adds where it would run on GPUs at paper scale.

A job is a training (or an evaluation of weights as they are) or a measurement.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.records.schema import Trial
from orchestrator.records.store import Store
from studies.costs import GPUS, Gpu, evaluation_flop, gpu_named, measurement_flop, training_flop
from studies.datasets import datasets
from studies.expand import PlannedTrial
from studies.planned_measures import PlannedMeasurement, images_looked_at
from studies.spec import Network, Resources, Schedule, StudySpec

Basis = Literal["measured", "estimated"]


@dataclass(frozen=True)
class Measured:
    """The mean time of finished jobs that are like a planned one. gpu: the kind they ran on, None for a CPU or an unlisted kind."""

    seconds: float
    gpu: Gpu | None


@dataclass(frozen=True)
class Job:
    """What a plan knows of a job. key: None while what it needs or the dataset is not made. reuses: an equal finished job serves."""

    key: str | None
    reuses: bool
    devices: float  # of the job: GPUs, or CPUs where it uses none
    measured: Measured | None  # None where nothing comparable was run
    flop: float | None  # by its multiply-adds; None for a CPU, below paper scale, and where something was not counted

    @property
    def seconds(self) -> float | None:
        """Measured time on its devices; 0 when reused, None when nothing comparable was run."""
        return 0.0 if self.reuses else self.measured.seconds if self.measured else None

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


class Estimates:
    """Times of jobs from what a store holds, looked up once."""

    def __init__(self, store: Store) -> None:
        self._history = functools.cache(store.history)
        self._training = functools.cache(self._look_back)
        self._measurement = functools.cache(self._look_back_at_measurements)
        self._datasets = datasets()

    def measured(self, study: StudySpec, planned: PlannedTrial) -> Measured | None:
        """The time of trainings like it, None where there are none."""
        uses = tuple(use.id for use in planned.distillers)
        return self._training(study.dataset, study.scale, study.resources, planned.network, planned.schedule, planned.weights, uses)

    def _look_back(self, dataset: str, scale: str, *like: Any) -> Measured | None:
        return trained(self._history(dataset, scale), *like)

    def flop(self, study: StudySpec, planned: PlannedTrial, teacher: Network | None) -> float | None:
        """FLOP of a trial at paper scale on GPUs by its multiply-adds, else None."""
        dataset = self._datasets.get(study.dataset)
        if study.scale != "paper" or not study.resources.gpus or dataset is None:
            return None
        if planned.weights:
            return evaluation_flop(planned.network, dataset)
        return training_flop(planned.network, planned.schedule, teacher, dataset)

    def measured_measurement(
        self, study: StudySpec, planned: PlannedMeasurement, detector: PlannedTrial, teacher: Network | None
    ) -> Measured | None:
        """The time of measurements like it, None where there are none."""
        looks = (planned.kind, images_looked_at(detector.schedule), repr(sorted(planned.options.items())))
        return self._measurement(study.dataset, study.scale, study.resources, detector.network, teacher, looks)

    def _look_back_at_measurements(self, dataset: str, scale: str, *like: Any) -> Measured | None:
        return measured_before(self._history(dataset, scale, measurements=True), *like)

    def measurement_flop(
        self, study: StudySpec, planned: PlannedMeasurement, detector: PlannedTrial, teacher: Network | None
    ) -> float | None:
        """FLOP of a measurement at paper scale on GPUs by its multiply-adds, else None."""
        dataset = self._datasets.get(study.dataset)
        if study.scale != "paper" or not study.resources.gpus or dataset is None:
            return None
        limit = images_looked_at(detector.schedule)
        return measurement_flop(planned.kind, planned.options, detector.network, teacher, dataset, limit)


@dataclass(frozen=True)
class _Before:
    """A finished job that may be like a planned one. how: what of it may differ where nothing nearer is known."""

    seconds: float
    device: str
    how: Any


def trained(
    history: Sequence[Trial], resources: Resources, network: Network, schedule: Schedule, weights: str | None, uses: tuple[str, ...]
) -> Measured | None:
    """Time of a training, from `history` (trainings of the same dataset and scale, newest first): the mean of those with the same network,
    schedule, devices and distillers (`uses`), else of those that differ only in the distillers, else None."""
    wanted = (_named(network.model_dump()), schedule.model_dump(mode="json"), weights)
    return _mean(
        [
            _Before(trial.seconds, _device(trial), tuple(use["id"] for use in spec["distillers"]))
            for trial in history
            if trial.seconds is not None and (spec := trial.spec) is not None and _devices(spec) == (resources.cpus, resources.visible_gpus)
            if (_named(spec["network"]), spec["schedule"], spec.get("weights")) == wanted
        ],
        uses,
        resources,
    )


def measured_before(
    history: Sequence[Trial], resources: Resources, network: Network, teacher: Network | None, looks: tuple[str, int | None, str]
) -> Measured | None:
    """Time of a measurement, from `history` (measurements of the same dataset and scale, newest first): the mean of those of the same kind,
    networks, images and devices with the same options, else of those that differ only in the options, else None.

    looks: kind, most images of the validation split, options.
    """
    kind, limit, options = looks
    wanted = (kind, limit, _named(network.model_dump()), _named(teacher.model_dump()) if teacher else None)
    return _mean(
        [
            _Before(trial.seconds, _device(trial), repr(sorted(spec["options"].items())))
            for trial in history
            if trial.seconds is not None and (spec := trial.spec) is not None and _devices(spec) == (resources.cpus, resources.visible_gpus)
            if (spec["kind"], spec["limit"], _of(spec, "detector"), _of(spec, "teacher")) == wanted
        ],
        options,
        resources,
    )


def _mean(alike: Sequence[_Before], how: Any, resources: Resources) -> Measured | None:
    """Of those that ran in the same way (all of them where none did), on the kind of device that the newest one had."""
    chosen = [each for each in alike if each.how == how] or alike
    if not chosen:
        return None
    device = chosen[0].device
    seconds = [each.seconds for each in chosen if each.device == device]
    return Measured(sum(seconds) / len(seconds), gpu_named(device) if resources.gpus else None)


def _named(network: dict[str, Any]) -> dict[str, Any]:
    return {"form": None, "width": None} | network


def _of(spec: dict[str, Any], role: str) -> dict[str, Any] | None:
    return _named(spec[role]["network"]) if spec.get(role) else None


def _devices(spec: dict[str, Any]) -> tuple[int, int]:
    return spec["threads"], spec["gpus"]


def _device(trial: Trial) -> str:
    return str((trial.environment or {}).get("device", ""))
