"""Tells an open page that something has happened: server-sent events with the number of the newest event, and nothing else.

The page then fetches itself again, so that what it shows is rendered in one place.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.access.callers import needs
from api.pages.dependencies import ReadingOf
from api.pages.studies import LARGEST
from orchestrator.access.schema import Scope

POLL_SECONDS = 0.5
routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])


@routes.get("/live", response_class=EventSourceResponse)
async def live(
    reading: ReadingOf,
    study: Annotated[int | None, Query(ge=1, le=LARGEST)] = None,
    after: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
    last_event_id: Annotated[int, Header(alias="Last-Event-ID", ge=0, le=LARGEST)] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """One `changed` whenever there are events that are newer than `after`, of one study or of all."""
    seen = max(after, last_event_id)
    while True:
        newest = await run_in_threadpool(reading.last_event, study)
        if newest > seen:
            seen = newest
            yield ServerSentEvent(id=str(newest), event="changed", data=newest)
        await asyncio.sleep(POLL_SECONDS)
