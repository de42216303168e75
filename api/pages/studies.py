"""The page of all studies: filtered, newest first, each with how far it is."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.pages.dependencies import ReadingOf
from api.pages.reading import BUSY
from api.pages.web import page, router, see
from orchestrator.machine import StudyState

LARGEST = 2**63 - 1
PAGE = 50
FILTERS: dict[str, tuple[StudyState, ...]] = {"": (), "busy": BUSY} | {state.value: (state,) for state in StudyState}
routes: APIRouter = router()


@routes.get("/")
def home() -> Response:
    """To the studies."""
    return see("/studies")


@routes.get("/studies")
def studies(
    request: Request,
    reading: ReadingOf,
    state: str = "",
    text: Annotated[str, Query(max_length=200)] = "",
    before: Annotated[int | None, Query(ge=1, le=LARGEST)] = None,
) -> Response:
    """Some of them."""
    found = reading.studies(FILTERS.get(state, ()), text.strip(), before, PAGE + 1)
    more, found = len(found) > PAGE, found[:PAGE]
    return page(
        request,
        "studies.html",
        studies=found,
        progress=reading.progress(found),
        tables=reading.tables_of(study.id for study in found),
        filters=list(FILTERS),
        state=state,
        text=text,
        first=before is None,
        next=found[-1].id if more else None,
        last_event=reading.last_event(),
    )
