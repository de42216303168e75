"""The client for programs: studies as objects that can be waited for, with what they came to.

It speaks REST through `api.client`, the connection that the command uses too; answers are the service's own models.
"""

import time
from collections.abc import Iterator, Mapping
from os import PathLike, fspath
from typing import Any

from api.client import Client as Connection
from api.client import StreamedEvent, Unreachable
from api.command.specs import study_data
from api.studies.schemas import PlanAnswer, StudyAnswer, StudyDetail, TrialAnswer
from retort.results import Figure, Figures, Table

Spec = Mapping[str, Any] | str | PathLike[str]  # data, a YAML file, or the id of a shipped study
_RETRY_SECONDS = 1.0


class Client:
    """A service. url, token: where it is and what it asks for; profile: its name among `retort profile list`. Without any: $RETORT_URL and
    $RETORT_TOKEN, $RETORT_PROFILE, or the stack of this machine's $RETORT_HOME.

    Every method raises Unreachable (nothing answers) and Refused (the answer is a problem, by field).
    """

    def __init__(self, url: str | None = None, token: str | None = None, profile: str | None = None) -> None:
        self._connection = Connection(url, token, profile)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._connection.url

    def submit(self, spec: Spec, *, scale: str | None = None, idempotency_key: str | None = None) -> "Study":
        """Submit a study; it is queued and run. Raises SpecError where the file is none."""
        return Study(self._connection, self._connection.submit(_data(spec, scale), idempotency_key))

    def plan(self, spec: Spec, *, scale: str | None = None) -> PlanAnswer:
        """What a study would run: trials, what is reused, how long it takes."""
        return PlanAnswer.model_validate(self._connection.plan(_data(spec, scale)))

    def study(self, study: int) -> "Study":
        """A study by its number."""
        return Study(self._connection, self._connection.study(study))

    def studies(self) -> Iterator[StudyAnswer]:
        """All studies, newest first, fetched as they are asked for."""
        cursor: str | None = None
        while True:
            page = self._connection.studies(cursor, 200)
            yield from map(StudyAnswer.model_validate, page["items"])
            cursor = page["next"]
            if cursor is None:
                return

    def catalog(self, what: str) -> list[dict[str, Any]]:
        """What a spec may name: studies, detectors, distillers, datasets, backbones or recipes."""
        return self._connection.catalog(what)


class Study:
    """A submitted study. `detail` is how it was when it was last asked for; `refresh` asks again."""

    def __init__(self, connection: Connection, answer: dict[str, Any]) -> None:
        self._connection = connection
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

    def refresh(self) -> "Study":
        """Itself, as it is now."""
        self.detail = StudyDetail.model_validate(self._connection.study(self.id))
        return self

    def wait(self, timeout: float | None = None) -> "Study":
        """Itself, at rest: finished, failed or cancelled. timeout: seconds. Raises TimeoutError; the study goes on."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.refresh().detail.at_rest:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"study {self.id} is {self.state} after {timeout:g} s")
            time.sleep(_RETRY_SECONDS)
        return self

    def events(self, after: int = 0) -> Iterator[StreamedEvent]:
        """What happens, as it happens, until the study is at rest; a connection that breaks is picked up where it ended."""
        while True:
            try:
                for event in self._connection.events(self.id, after):
                    after = event.id
                    yield event
                return
            except Unreachable:
                time.sleep(_RETRY_SECONDS)
                self._connection.study(self.id)  # raises where the service stays away

    def trials(self) -> list[TrialAnswer]:
        """Its trials, teachers first, and behind them its measurements."""
        return [TrialAnswer.model_validate(each) for each in self._connection.trials(self.id)]

    def table(self) -> Table:
        """Its table, from what is there by now."""
        return Table(lambda form: self._connection.table(self.id, form))

    def figures(self) -> Figures:
        """Its pictures by name, from what is there by now."""
        return Figures(
            {each["name"]: Figure(each["name"], self._connection.file(each["svg"])) for each in self._connection.figures(self.id)}
        )

    def cancel(self) -> "Study":
        """Itself, stopped gracefully; what is trained is kept."""
        self.detail = StudyDetail.model_validate(self._connection.cancel(self.id))
        return self

    def resume(self) -> "Study":
        """Itself, queued again for what is missing."""
        self.detail = StudyDetail.model_validate(self._connection.resume(self.id))
        return self

    def __repr__(self) -> str:
        return f"<study {self.id}: {self.name!r}, {self.state}>"


def _data(spec: Spec, scale: str | None) -> Any:
    if isinstance(spec, Mapping):
        return {**spec, **({"scale": scale} if scale else {})}
    return study_data(fspath(spec), scale)
