"""What a program does with a service and with a study, written once for the client that blocks and for the one that is awaited."""

import time
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

from api.calls import Calls
from api.command.specs import study_data
from api.exchange import Pause, Steps, call
from api.studies.schemas import PlanAnswer, StudyDetail, TrialAnswer
from retort.results import Figure, Figures, Table

Spec = Mapping[str, Any] | str | PathLike[str]  # data, a YAML file, or the id of a shipped study
LOOK_AGAIN_SECONDS = 1.0


class ServiceOperations:
    """A service as programs use it. Every method raises Unreachable (nothing answers) and Refused (the answer is a problem, by field)."""

    _connection: Calls

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._connection.url

    @call
    def plan(self, spec: Spec, *, scale: str | None = None) -> Steps[PlanAnswer]:
        """What a study would run: trials, what is reused, how long it takes."""
        return PlanAnswer.model_validate((yield from Calls.plan.steps(self._connection, data_of(spec, scale))))

    @call
    def catalog(self, what: str) -> Steps[list[dict[str, Any]]]:
        """What a spec may name: studies, detectors, distillers, datasets, backbones or recipes."""
        return (yield from Calls.catalog.steps(self._connection, what))


class StudyOperations:
    """A submitted study. `detail` is how it was when it was last asked for; `refresh` asks again."""

    def __init__(self, connection: Calls, answer: dict[str, Any]) -> None:
        self._asked = connection
        self.detail = StudyDetail.model_validate(answer)

    @property
    def id(self) -> int:
        """Its number."""
        return self.detail.id

    @property
    def name(self) -> str:
        """Its name."""
        return self.detail.name

    @property
    def state(self) -> str:
        """queued, running, cancelling, cancelled, finished or failed."""
        return self.detail.state

    @call
    def refresh(self) -> Steps[str]:
        """Its state now; the rest is in `detail`."""
        return (yield from self._now(Calls.study))

    @call
    def wait(self, timeout: float | None = None) -> Steps[str]:
        """Its state at rest: finished, failed or cancelled. timeout: seconds. Raises TimeoutError; the study goes on."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            yield from self._now(Calls.study)
            if self.detail.at_rest:
                return self.state
            left = LOOK_AGAIN_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"study {self.id} is {self.state} after {timeout:g} s")
            yield Pause(min(left, LOOK_AGAIN_SECONDS))

    @call
    def trials(self) -> Steps[list[TrialAnswer]]:
        """Its trials, teachers first, and behind them its measurements."""
        return [TrialAnswer.model_validate(each) for each in (yield from Calls.trials.steps(self._asked, self.id))]

    @call
    def table(self) -> Steps[Table]:
        """Its table, from what is there by now."""
        texts = {}
        for form in ("md", "tex", "csv", "json"):
            texts[form] = yield from Calls.table.steps(self._asked, self.id, form)
        return Table.of(texts)

    @call
    def figures(self) -> Steps[Figures]:
        """Its pictures by name, from what is there by now."""
        figures = {}
        for each in (yield from Calls.figures.steps(self._asked, self.id)):
            figures[each["name"]] = Figure(each["name"], (yield from Calls.file.steps(self._asked, each["svg"])))
        return Figures(figures)

    @call
    def cancel(self) -> Steps[str]:
        """Its state, when it is told to stop gracefully; what is trained is kept."""
        return (yield from self._now(Calls.cancel))

    @call
    def resume(self) -> Steps[str]:
        """Its state, queued again for what is missing."""
        return (yield from self._now(Calls.resume))

    def _now(self, asked: call[[int], dict[str, Any]]) -> Steps[str]:
        self.detail = StudyDetail.model_validate((yield from asked.steps(self._asked, self.id)))
        return self.state

    def __repr__(self) -> str:
        return f"<study {self.id}: {self.name!r}, {self.state}>"


def data_of(spec: Spec, scale: str | None) -> Any:
    """The document of a study. Raises SpecError where the file is none."""
    if isinstance(spec, Mapping):
        return {**spec, **({"scale": scale} if scale else {})}
    return study_data(fspath(spec), scale)
