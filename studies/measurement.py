"""A resolved measurement of finished checkpoints: everything that decides its numbers, and its identity.

A measurement is a job of its own. It is known by the digests of the checkpoints that it reads, so that it is made once for all
studies, and nothing of it is part of a training's key.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pydantic import Field, ValidationError, model_validator

from studies.catalog import Scale
from studies.code import code_version
from studies.measures import KINDS, Kind, MeasureOptions
from studies.spec import MethodUse, SpecModel
from studies.trial import TeacherRef

RUNNER = "workers.measuring.run"  # where every measurement starts


class MeasurementSpec(SpecModel):
    """One measurement: of `detector`, for some kinds beside its `teacher`, over the first `limit` images of the validation split."""

    kind: Kind
    dataset: str
    scale: Scale
    detector: TeacherRef = Field(description="the network that is measured and its checkpoint")
    teacher: TeacherRef | None = None
    distillers: list[MethodUse] = Field([], description="of the detector's training, for the weights with which they sample")
    options: dict[str, Any] = {}
    limit: int | None = Field(None, ge=1, description="validation images that its training looked at; null: all")
    threads: int = Field(1, ge=1)
    gpus: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> "MeasurementSpec":
        kind = KINDS[self.kind]
        if kind.teacher == "needed" and self.teacher is None:
            raise ValueError(f"{self.kind} compares a student with its teacher, and no teacher is given")
        if kind.teacher == "none" and self.teacher is not None:
            raise ValueError(f"{self.kind} measures one detector; leave the teacher out")
        if bool(self.distillers) != (self.kind == "sampling"):
            raise ValueError("distillers are given exactly for the kind sampling")
        return self

    @property
    def chosen(self) -> MeasureOptions:
        """The options with every default spelled out. Raises pydantic's ValidationError."""
        return KINDS[self.kind].options.model_validate(self.options)

    def resolved(self) -> "MeasurementSpec":
        """The same with every option spelled out. Raises ValueError naming the option."""
        try:
            return self.model_copy(update={"options": self.chosen.model_dump(mode="json")})
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, ('options', *first['loc'])))}: {first['msg']}") from error

    def identity(self, dataset_digest: str, code_version: str) -> dict[str, Any]:
        """What the key hashes: everything that decides the numbers; checkpoints by content, not by path."""
        content = self.resolved().model_dump(mode="json")
        for role in ("detector", "teacher"):
            if content[role]:
                del content[role]["checkpoint"]
        return {"measurement": content, "dataset": dataset_digest, "code": code_version}

    def key(self, dataset_digest: str, code_version: str) -> str:
        """sha256 (hex) of the canonical JSON of `identity`."""
        text = json.dumps(self.identity(dataset_digest, code_version), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def measurement_code(kind: Kind, methods_used: Iterable[str] = ()) -> str:
    """The version of the code that makes a measurement's numbers, for the distillers that it looks at. Raises ValueError."""
    return code_version(methods_used, entries=(RUNNER, KINDS[kind].module))
