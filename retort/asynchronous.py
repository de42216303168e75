"""The client for `await`: the same calls in threads, so that the loop goes on meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from api.client import StreamedEvent
from api.studies.schemas import PlanAnswer, StudyAnswer, StudyDetail, TrialAnswer
from retort.client import Client, Spec, Study
from retort.results import Figures, Table


class AsyncClient:
    """As `Client`."""

    def __init__(self, url: str | None = None, token: str | None = None, profile: str | None = None) -> None:
        self._client = Client(url, token, profile)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._client.url

    async def submit(self, spec: Spec, *, scale: str | None = None, idempotency_key: str | None = None) -> "AsyncStudy":
        """Submit a study; it is queued and run."""
        return AsyncStudy(await asyncio.to_thread(self._client.submit, spec, scale=scale, idempotency_key=idempotency_key))

    async def plan(self, spec: Spec, *, scale: str | None = None) -> PlanAnswer:
        """What a study would run."""
        return await asyncio.to_thread(self._client.plan, spec, scale=scale)

    async def study(self, study: int) -> "AsyncStudy":
        """A study by its number."""
        return AsyncStudy(await asyncio.to_thread(self._client.study, study))

    async def studies(self) -> AsyncIterator[StudyAnswer]:
        """All studies, newest first."""
        pages = self._client.studies()
        while (study := await asyncio.to_thread(next, pages, None)) is not None:
            yield study

    async def catalog(self, what: str) -> list[dict[str, Any]]:
        """What a spec may name."""
        return await asyncio.to_thread(self._client.catalog, what)


class AsyncStudy:
    """As `Study`."""

    def __init__(self, study: Study) -> None:
        self._study = study

    @property
    def id(self) -> int:
        """Its number."""
        return self._study.id

    @property
    def name(self) -> str:
        """Its name."""
        return self._study.name

    @property
    def state(self) -> str:
        """queued, running, cancelling, cancelled, finished or failed."""
        return self._study.state

    @property
    def detail(self) -> StudyDetail:
        """How it was when it was last asked for."""
        return self._study.detail

    async def refresh(self) -> "AsyncStudy":
        """Itself, as it is now."""
        await asyncio.to_thread(self._study.refresh)
        return self

    async def wait(self, timeout: float | None = None) -> "AsyncStudy":
        """Itself, at rest. Raises TimeoutError; the study goes on."""
        async with asyncio.timeout(timeout):
            while not (await self.refresh()).detail.at_rest:
                await asyncio.sleep(1.0)
        return self

    async def events(self, after: int = 0) -> AsyncIterator[StreamedEvent]:
        """What happens, as it happens, until the study is at rest."""
        stream = self._study.events(after)
        while (event := await asyncio.to_thread(next, stream, None)) is not None:
            yield event

    async def trials(self) -> list[TrialAnswer]:
        """Its trials, teachers first."""
        return await asyncio.to_thread(self._study.trials)

    async def table(self) -> Table:
        """Its table; what of it is looked at is here already."""
        table = self._study.table()
        await asyncio.gather(*(asyncio.to_thread(getattr, table, form) for form in ("markdown", "tex", "csv", "data")))
        return table

    async def figures(self) -> Figures:
        """Its pictures by name."""
        return await asyncio.to_thread(self._study.figures)

    async def cancel(self) -> "AsyncStudy":
        """Itself, stopped gracefully; what is trained is kept."""
        await asyncio.to_thread(self._study.cancel)
        return self

    async def resume(self) -> "AsyncStudy":
        """Itself, queued again for what is missing."""
        await asyncio.to_thread(self._study.resume)
        return self
