"""What pages are given: the database as they read it."""

from typing import Annotated

from fastapi import Depends, Request

from api.dependencies import StoreOf
from api.pages.reading import Reading


def _reading(request: Request, store: StoreOf) -> Reading:
    kept: Reading | None = getattr(request.app.state, "reading", None)
    if kept is None or kept.store is not store:
        kept = request.app.state.reading = Reading(store)
    return kept


ReadingOf = Annotated[Reading, Depends(_reading)]
