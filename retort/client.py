"""The client for programs: studies as objects that can be waited for, with what they came to.

It speaks REST through `api.client`, the connection that the command uses too; answers are the service's own models.
"""

import time
from collections.abc import Iterator
from typing import Any, TypeVar

from api.client import Client as Connection
from api.client import StreamedEvent, Unreachable
from api.exchange import Blocking, Steps
from api.studies.schemas import StudyAnswer
from retort.operations import LOOK_AGAIN_SECONDS, ServiceOperations, Spec, StudyOperations, data_of

T = TypeVar("T")


class Client(ServiceOperations, Blocking):
    """A service. url, token: where it is and what it asks for; profile: its name among `retort profile list`. Without any: $RETORT_URL and
    $RETORT_TOKEN, $RETORT_PROFILE, or the stack of this machine's $RETORT_HOME.

    Every method raises Unreachable (nothing answers) and Refused (the answer is a problem, by field).
    """

    _connection: Connection

    def __init__(self, url: str | None = None, token: str | None = None, profile: str | None = None) -> None:
        self._connection = Connection(url, token, profile)

    def run(self, steps: Steps[T]) -> T:
        """What the steps of a call come to."""
        return self._connection.run(steps)

    def submit(self, spec: Spec, *, scale: str | None = None, idempotency_key: str | None = None) -> "Study":
        """Submit a study; it is queued and run. Raises SpecError where the file is none."""
        return Study(self._connection, self._connection.submit(data_of(spec, scale), idempotency_key))

    def study(self, study: int) -> "Study":
        """A study by its number."""
        return Study(self._connection, self._connection.study(study))

    def studies(self) -> Iterator[StudyAnswer]:
        """All studies, newest first, fetched as they are asked for."""
        page: dict[str, Any] = {"next": None}
        while True:
            page = self._connection.studies(page["next"], 200)
            yield from map(StudyAnswer.model_validate, page["items"])
            if page["next"] is None:
                return

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


class Study(StudyOperations, Blocking):
    """A submitted study. `detail` is how it was when it was last asked for; `refresh` asks again."""

    def __init__(self, connection: Connection, answer: dict[str, Any]) -> None:
        super().__init__(connection, answer)
        self._connection = connection

    def run(self, steps: Steps[T]) -> T:
        """What the steps of a call come to."""
        return self._connection.run(steps)

    def events(self, after: int = 0) -> Iterator[StreamedEvent]:
        """What happens, as it happens, until the study is at rest; a connection that breaks is picked up where it ended."""
        while True:
            try:
                for event in self._connection.events(self.id, after):
                    after = event.id
                    yield event
                return
            except Unreachable:
                time.sleep(LOOK_AGAIN_SECONDS)
                self.refresh()  # raises where the service stays away
