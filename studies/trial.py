"""A resolved trial: everything that decides its numbers, and nothing else; and the classes of failure.

`TrialSpec` is what `workers` trains. It is made from a study by `studies.expand` and carries every default spelled
out, so that its identity is a pure function of its content.
"""

import hashlib
import json
from dataclasses import asdict
from typing import Any, Literal

from pydantic import ConfigDict, Field

from studies.catalog import Scale
from studies.own_detectors import made_of
from studies.recipes import RECIPES, optimizer_of
from studies.spec import MethodUse, Network, OnBroken, Precision, Resources, Schedule, SpecModel, WeightsName

FailureKind = Literal["nan", "oom", "data", "user", "infra"]
FAILURES: dict[str, str] = {
    "nan": "the loss or a metric became NaN or infinite",
    "oom": "the device ran out of memory",
    "data": "the dataset is missing, incomplete or broken",
    "user": "the study asks for something impossible (a teacher that does not fit, say)",
    "infra": "the machine or process failed; such a trial is tried again",
}
CHECKPOINT_NOW = "checkpoint-now"  # file in a trial's folder: its process writes a checkpoint as soon as it can, and removes the file
LAST_STATE = "last.pt"  # in a trial's folder: what its training goes on from
ERROR_CURVES = "error_curves.json"  # a trial leaves it beside its checkpoint
LEAVE_NOW = "leave-now"  # likewise: it writes a checkpoint and ends, to be gone on with later


NO_CUDA_OPERATORS = (
    "trials on a GPU need mmcv's CUDA operators, and this installation has them for the CPU alone: install {toolkit}, set CUDA_HOME to it, "
    "and run make setup again"
)


class TrialFailure(Exception):
    """A trial that cannot go on. `kind` is one of FAILURES, `sentence` what a person should read. Only infra is retried."""

    def __init__(self, kind: FailureKind, sentence: str) -> None:
        super().__init__(f"{kind}: {sentence}")
        self.kind: FailureKind = kind
        self.sentence = sentence

    def __reduce__(self) -> tuple[Any, ...]:
        return TrialFailure, (self.kind, self.sentence)


class TeacherRef(SpecModel):
    """The teacher of a trial: its network and the checkpoint file with its digest.

    `checkpoint` is set by the driver (or the local command), never by a request.
    """

    network: Network
    checkpoint: str
    sha256: str


class Setting(SpecModel):
    """What a stored study says of all its trials, read without the rest of its spec: that may name what is no longer in the catalogue."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    dataset: str
    scale: Scale
    resources: Resources
    on_broken: OnBroken
    force: bool
    precision: Precision = "fp32"  # studies of earlier versions do not say


class TrialSpec(SpecModel):
    """One training: network, data, schedule, seed; for a distilled student also teacher and methods."""

    dataset: str
    scale: Scale
    network: Network
    schedule: Schedule
    seed: int = Field(ge=0)
    threads: int = Field(1, ge=1, description="compute threads; another count gives other last digits")
    gpus: int = Field(0, ge=0)
    workers: int = Field(1, ge=1, description="processes that train it together where it has no GPUs; with GPUs one for each does")
    teacher: TeacherRef | None = None
    distillers: list[MethodUse] = []
    on_broken: OnBroken = "stop"
    precision: Precision = "fp32"
    weights: WeightsName | None = Field(None, description="of the store of weights, evaluated instead of trained")
    init: WeightsName | None = Field(None, description="of the store of weights, trained from instead of what the recipe says")

    @property
    def full_schedule(self) -> Schedule:
        """The schedule with what is left open (in a trial written by hand, say) filled in from its recipe."""
        usual = Schedule(recipe=self.schedule.recipe).resolved(self.scale, self.network, self.dataset)
        return self.schedule.over(usual)

    @property
    def processes(self) -> int:
        """Processes that train it together."""
        return max(self.gpus, self.workers)

    @property
    def group(self) -> str | None:
        """What trials that may train as a group have in common: the teacher, and all that their batches follow from. None: it trains
        alone."""
        if self.teacher is None or self.processes > 1 or self.weights:
            return None
        schedule = self.full_schedule
        of_batches = (schedule.recipe, schedule.epochs, schedule.batch_size, schedule.accumulate, schedule.max_iterations)
        of_images = (self.dataset, self.scale, self.seed, self.on_broken, self.network.detector, self.network.form)
        return json.dumps([self.teacher.sha256, of_images, of_batches, self.threads, self.gpus, self.precision])

    @property
    def networks(self) -> list[Network]:
        """The student's and, where it is taught, the teacher's."""
        return [self.network, *([self.teacher.network] if self.teacher else [])]

    @property
    def methods(self) -> tuple[str, ...]:
        """Ids of the distillers it uses, sorted."""
        return tuple(sorted(use.id for use in self.distillers))

    @property
    def settled_distillers(self) -> list[MethodUse]:
        """The distillers with what is left open (in a trial written by hand, say) spelled out. Raises ValueError."""
        if self.teacher is None:
            return self.distillers
        return [use.resolved(self.network.family, self.teacher.network.family) for use in self.distillers]

    def identity(self, dataset_digest: str, code_version: str) -> dict[str, Any]:
        """What the trial key hashes: everything that decides the numbers; the teacher by content, not by path.

        `on_broken` is not in it: what is broken is in the dataset's digest, and a trial that did not stop skipped it. Nor is the usual
        `precision`, which was the only one once.
        """
        content = self.model_dump(mode="json", exclude={"on_broken"} | ({"precision"} if self.precision == "fp32" else set()))
        content["distillers"] = [use.model_dump(mode="json") for use in self.settled_distillers]
        recipe = RECIPES[str(self.full_schedule.recipe)]
        content["recipe"] = asdict(recipe)  # by content, as its name alone would outlive a change of it
        content["optimizer"] = asdict(optimizer_of(recipe, self.network.detector, self.network.backbone, self.network.form))
        own = {network.detector: made_of(network.family) for network in self.networks if network.family.config}
        if own:
            content["detectors"] = own
        if self.teacher:
            content["teacher"] = {"network": self.teacher.network.model_dump(mode="json"), "sha256": self.teacher.sha256}
        return {"trial": content, "dataset": dataset_digest, "code": code_version}

    def key(self, dataset_digest: str, code_version: str) -> str:
        """The trial key: sha256 (hex) of the canonical JSON of `identity`."""
        text = json.dumps(self.identity(dataset_digest, code_version), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()
