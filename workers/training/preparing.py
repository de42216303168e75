"""A batch of the loader as networks take it: on their device, normalised, padded; once for all members that take it alike."""

from __future__ import annotations

from typing import Any

import torch

from workers.detectors.inputs import PairedPreprocessor, input_of
from workers.training.member import Member

IMAGES = ("inputs", "teacher_inputs")


def kind_of(preprocessor: Any) -> tuple[Any, ...]:
    """Preprocessors of one kind make the same of a batch, where they draw no random numbers."""
    if isinstance(preprocessor, PairedPreprocessor):
        return kind_of(preprocessor.student), kind_of(preprocessor.teacher)
    return type(preprocessor), input_of(preprocessor), preprocessor.pad_size_divisor, preprocessor.pad_value


class Batch:
    """A batch for several members. The images are the same tensors for all who see the same; samples are each member's own, for
    networks write into them."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self.prepared: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.mixed: list[dict[str, Any]] = []

    def of(self, member: Member, kind: tuple[Any, ...]) -> dict[str, Any]:
        """kind: of the member's preprocessor."""
        if member.mixes:
            return self._mixed(member)
        if kind not in self.prepared:
            self.prepared[kind] = member.prepare(self.raw)
        data = self.prepared[kind]
        return {**data, "data_samples": [sample.to(data["inputs"].device) for sample in data["data_samples"]]}

    def _mixed(self, member: Member) -> dict[str, Any]:
        """Mixed with the member's own random numbers; so only what came out tells whether another sees the same."""
        data = member.prepare(self.raw)
        for other in self.mixed:
            if all(torch.equal(data[name], other[name]) for name in IMAGES if name in data):
                return data | {name: other[name] for name in IMAGES if name in data}
        self.mixed.append(data)
        return data
