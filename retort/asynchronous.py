"""The client for `await`: the same operations on a connection that waits in the event loop."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from api.client import AsyncClient as Connection
from api.client import StreamedEvent, Unreachable
from api.exchange import Awaiting, Steps
from api.studies.schemas import StudyAnswer
from retort.operations import LOOK_AGAIN_SECONDS, ServiceOperations, Spec, StudyOperations, data_of

T = TypeVar("T")


class AsyncClient(ServiceOperations, Awaiting):
    """As `Client`; `async with AsyncClient() as client` lets go of its connections."""

    _connection: Connection

    def __init__(self, url: str | None = None, token: str | None = None, profile: str | None = None) -> None:
        self._connection = Connection(url, token, profile)

    async def run(self, steps: Steps[T]) -> T:
        """What the steps of a call come to."""
        return await self._connection.run(steps)

    async def submit(self, spec: Spec, *, scale: str | None = None, idempotency_key: str | None = None) -> "AsyncStudy":
        """Submit a study; it is queued and run. Raises SpecError where the file is none."""
        return AsyncStudy(self._connection, await self._connection.submit(data_of(spec, scale), idempotency_key))

    async def study(self, study: int) -> "AsyncStudy":
        """A study by its number."""
        return AsyncStudy(self._connection, await self._connection.study(study))

    async def studies(self) -> AsyncIterator[StudyAnswer]:
        """All studies, newest first, fetched as they are asked for."""
        page: dict[str, Any] = {"next": None}
        while True:
            page = await self._connection.studies(page["next"], 200)
            for each in page["items"]:
                yield StudyAnswer.model_validate(each)
            if page["next"] is None:
                return

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


class AsyncStudy(StudyOperations, Awaiting):
    """As `Study`."""

    def __init__(self, connection: Connection, answer: dict[str, Any]) -> None:
        super().__init__(connection, answer)
        self._connection = connection

    async def run(self, steps: Steps[T]) -> T:
        """What the steps of a call come to."""
        return await self._connection.run(steps)

    async def events(self, after: int = 0) -> AsyncIterator[StreamedEvent]:
        """What happens, as it happens, until the study is at rest; a connection that breaks is picked up where it ended."""
        while True:
            try:
                async for event in self._connection.events(self.id, after):
                    after = event.id
                    yield event
                return
            except Unreachable:
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
                await self.refresh()  # raises where the service stays away
