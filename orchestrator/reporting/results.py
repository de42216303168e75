"""What a table asks of a trial: a stored one has it all, and so has a slim copy of one, where there are very many."""

from collections.abc import Mapping
from typing import Any, Protocol

from orchestrator.machine import TrialState


class Result(Protocol):
    """A trial with what it measured, as far as it is."""

    @property
    def name(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def state(self) -> TrialState: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def metrics(self) -> Mapping[str, Any] | None: ...
    @property
    def run(self) -> str | None: ...
    @property
    def environment(self) -> Mapping[str, Any] | None: ...
    @property
    def dataset_digest(self) -> str | None: ...
