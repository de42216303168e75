"""Studies, trials and plans as they are answered, and the schema of a spec as OpenAPI shows it."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from orchestrator.machine import StudyState, TrialState
from studies.catalog import BACKBONES, FORMS, METRICS, detectors
from studies.datasets import datasets
from studies.methods import methods
from studies.recipes import RECIPES
from studies.shipped import shipped_studies
from studies.spec import StudySpec


class StudyAnswer(BaseModel):
    """A study."""

    id: int
    name: str
    state: StudyState
    owner: str | None = Field(description="who submitted it; null: from before there were tokens")
    at_rest: bool = Field(description="nothing happens until somebody resumes it")
    reason: str | None = Field(description="why it failed")
    priority: int = Field(description="in the queue; the higher the sooner")
    paused: bool = Field(description="it is granted no devices")
    created: datetime
    started: datetime | None
    finished: datetime | None
    trials: dict[TrialState, int] = Field(description="how many trainings are in each state")
    mlflow: str | None = Field(description="its page in MLflow")


class StudyDetail(StudyAnswer):
    """A study with what was asked for."""

    attempts: int = Field(description="how often its driver was started")
    waits: str | None = Field(description="why its next trial waits for devices; null: none does")
    spec: dict[str, Any]


class StudyPage(BaseModel):
    """Some studies, newest first. `next`: the cursor of the following page, null on the last."""

    items: list[StudyAnswer]
    next: str | None


class Sign(BaseModel):
    """A sign of life inside an epoch: `step` of its `steps` are done, both counted from 1."""

    epoch: int
    epochs: int
    step: int
    steps: int
    metrics: dict[str, float] = Field(
        description="losses as means over the epoch so far, lr, images_per_second, data_share (spent waiting for images), memory (GiB)"
    )
    time: datetime


class TrialAnswer(BaseModel):
    """One job of a study: a training, or a measurement of finished ones."""

    name: str = Field(description='unique in the study: "fitnet/seed-0"')
    title: str
    role: Literal["teacher", "baseline", "distilled", "measurement"]
    seed: int
    teacher: str | None = Field(description="name of the trial that teaches this one, or that it is measured beside")
    measures: str | None = Field(description="of a measurement: name of the trial that it measures")
    state: TrialState
    reason: str | None = Field(description="why it failed, in a sentence")
    failure: str | None = Field(description="class of failure: nan, oom, data, user or infra")
    epoch: int = Field(description="epochs done")
    epochs: int | None
    latest: dict[str, float] | None = Field(description="metrics after the last epoch")
    sign: Sign | None = Field(None, description="its last sign of life inside the epoch under way; null where there is none")
    metrics: dict[str, float] | None = Field(description="final metrics")
    seconds: float | None = Field(description="time in training")
    started: datetime | None
    finished: datetime | None
    key: str | None = Field(description="trial key: equal keys are the same training or measurement")
    checkpoint_sha256: str | None = Field(description="of a measurement: that of its document")
    mlflow: str | None = Field(description="its page in MLflow")


class TrialPage(BaseModel):
    """Some trials of a study, every teacher before its students, and behind them its measurements. `next`: the cursor of the following
    page, null on the last."""

    items: list[TrialAnswer]
    next: str | None


class PlannedJobAnswer(BaseModel):
    """A trial or a measurement that a study would run, or reuse."""

    name: str
    title: str
    seed: int
    teacher: str | None
    key: str | None = Field(description="null while a checkpoint that it needs or the dataset is not made yet")
    reused: bool = Field(description="an equal finished one serves")
    seconds: float | None = Field(description="measured time of those like it; null when nothing alike was run here")
    basis: Literal["measured", "estimated"] | None = Field(
        description="of its device time: those like it, or multiply-adds at the stated efficiency; null when unknown or reused"
    )
    gpu_hours: dict[str, float] | None = Field(description="device-hours by kind of GPU; null when unknown, and on CPUs")


class PlannedTrialAnswer(PlannedJobAnswer):
    """A trial that a study would run, or reuse."""

    role: Literal["teacher", "baseline", "distilled"]
    evaluates: bool = Field(description="it takes weights as they are, and only evaluates them")


class PlannedMeasurementAnswer(PlannedJobAnswer):
    """A measurement that a study would make of what its trials have trained, or reuse."""

    kind: str
    detector: str = Field(description="the trial that it measures")


class PlanSums(BaseModel):
    """What running takes."""

    to_train: int
    to_evaluate: int = Field(description="trials that take weights as they are, and only evaluate them")
    to_measure: int = Field(description="measurements to make of what the trials have trained")
    measured: int = Field(description="trials and measurements to run whose time is that of others like them")
    estimated: int = Field(description="trials and measurements to run whose time is estimated from multiply-adds at the stated efficiency")
    unknown: int = Field(description="trials and measurements to run of unknown time")
    device_seconds: float = Field(description="device time of those with a measured time, on the devices these were measured on")
    gpu_hours: dict[str, float] = Field(description="device-hours by kind of GPU, measured and estimated; empty for a study on CPUs")


class PlanAnswer(PlanSums):
    """What a study would run."""

    name: str
    trials: list[PlannedTrialAnswer]
    to_run: int = Field(description="trials to train or evaluate")
    reused: int
    measurements: list[PlannedMeasurementAnswer]
    device: Literal["cpu", "gpu"]
    efficiency: str = Field(description="what estimates assume")
    warnings: list[str] = Field(description="what to know of a study that is valid all the same")


def study_schemas() -> dict[str, Any]:
    """JSON schemas of StudySpec and its parts by name, with the catalogue's names spelled out and the shipped studies as examples."""
    schema = StudySpec.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas: dict[str, Any] = schema.pop("$defs", {})
    schemas["StudySpec"] = schema
    for network in (schemas["StudyNetwork"]["properties"], schemas["Teacher"]["properties"]):
        network["detector"]["enum"] = list(detectors())
        network["backbone"]["enum"] = list(BACKBONES)
        network["form"]["anyOf"][0]["enum"] = list(FORMS)
    schemas["Schedule"]["properties"]["recipe"]["anyOf"][0]["enum"] = list(RECIPES)
    schemas["MethodUse"]["properties"]["id"]["enum"] = list(methods())
    schema["properties"]["dataset"]["enum"] = list(datasets())
    schema["properties"]["metrics"]["items"]["enum"] = list(METRICS)
    schema["properties"]["metrics"]["uniqueItems"] = True
    schema["properties"]["seeds"]["uniqueItems"] = True
    for way in schemas["Arm"]["properties"]["distiller"]["anyOf"]:
        for text in (way, *way.get("items", {}).get("anyOf", [])):
            if text.get("type") == "string":
                text["enum"] = list(methods())
    schema["examples"] = [study.data for study in shipped_studies().values() if "arms" in study.data]
    return schemas
