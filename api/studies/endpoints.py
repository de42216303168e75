"""Routes of studies."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.access.callers import HolderOf, needs
from api.bodies import SubmittedStudy
from api.dependencies import SettingsOf, StoreOf
from api.problems import responses
from api.queue.schemas import TimelineAnswer
from api.studies.schemas import PlanAnswer, StudyDetail, StudyPage, TrialPage
from api.studies.service import Studies, event_data
from orchestrator.access.schema import Scope
from orchestrator.reporting.rendering import CONTENT_TYPES, Format

_POLL_SECONDS = 0.5
_LARGEST = 2**63 - 1
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {form: {"schema": {"$ref": "#/components/schemas/StudySpec"}} for form in ("application/json", "application/yaml")},
    }
}


def _studies(store: StoreOf, settings: SettingsOf) -> Studies:
    return Studies(store, settings)


StudiesOf = Annotated[Studies, Depends(_studies)]
StudyId = Annotated[int, Path(ge=1, le=_LARGEST)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="visible ASCII; a request with the same key and body makes no second study",
    ),
]
Priority = Annotated[int, Query(ge=-100, le=100, description="in the queue; the higher the sooner. Above 10: an administrator's to give")]
SUBMITS = [needs(Scope.SUBMIT)]
router = APIRouter(prefix="/v1/studies", tags=["studies"], dependencies=[needs(Scope.READ)])
plans = APIRouter(prefix="/v1/studies:plan", tags=["studies"], dependencies=[needs(Scope.READ)])


@router.post("", status_code=202, dependencies=SUBMITS, openapi_extra=_BODY, responses=responses(400, 409, 413, 415, 422))
def submit(
    submission: SubmittedStudy,
    studies: StudiesOf,
    holder: HolderOf,
    response: Response,
    idempotency_key: IdempotencyKey = None,
    priority: Priority = 0,
) -> StudyDetail:
    """Submit a study; it is queued and run."""
    study = studies.submit(submission, idempotency_key, holder, priority)
    response.headers["Location"] = f"/v1/studies/{study.id}"
    return study


@plans.post("", openapi_extra=_BODY, responses=responses(400, 413, 415, 422))
def plan(submission: SubmittedStudy, studies: StudiesOf) -> PlanAnswer:
    """What a study would run: its trials, what is reused, and how long it takes."""
    return studies.plan(submission)


@router.get("", responses=responses(422))
def page(
    studies: StudiesOf,
    cursor: Annotated[int | None, Query(ge=1, le=_LARGEST, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    owner: Annotated[str | None, Query(max_length=200, description="only what is theirs")] = None,
) -> StudyPage:
    """Studies, newest first."""
    return studies.page(cursor, limit, owner)


@router.get("/{study_id}", responses=responses(404, 422))
def study(study_id: StudyId, studies: StudiesOf) -> StudyDetail:
    """One study."""
    return studies.study(study_id)


@router.get("/{study_id}/trials", responses=responses(404, 422))
def trials(
    study_id: StudyId,
    studies: StudiesOf,
    cursor: Annotated[int | None, Query(ge=0, le=_LARGEST, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    name: Annotated[list[str], Query(max_length=100, description="only the trials of these names")] = [],  # noqa: B006 (FastAPI copies it)
) -> TrialPage:
    """Its trials, every teacher before its students."""
    return studies.trials(study_id, cursor, limit, name)


@router.get("/{study_id}/table", response_class=Response, responses=responses(404, 422))
def table(study_id: StudyId, studies: StudiesOf, format: Annotated[Format, Query()] = "md") -> Response:
    """Its table, from what is stored until now."""
    return Response(studies.table(study_id, format), media_type=CONTENT_TYPES[format])


def _existing(study_id: StudyId, studies: StudiesOf) -> int:
    """Refuse an unknown study before the stream has begun."""
    return studies.row(study_id).id


@router.get("/{study_id}/events", response_class=EventSourceResponse, responses=responses(404, 422))
async def events(
    study: Annotated[int, Depends(_existing)],
    studies: StudiesOf,
    last_event_id: Annotated[int, Header(alias="Last-Event-ID", ge=0, le=_LARGEST, description="only what happened after this event")] = 0,
    follow: Annotated[bool, Query(description="go on when the study is at rest")] = False,
) -> AsyncIterator[ServerSentEvent]:
    """What happens, as it happens (server-sent events); ends when the study is at rest."""
    while True:
        news, at_rest = await run_in_threadpool(studies.news, study, last_event_id)
        for event in news:
            last_event_id = event.id
            yield ServerSentEvent(id=str(event.id), event=event.kind, data=event_data(event))
        if at_rest and not news and not follow:
            return
        if not news:
            await asyncio.sleep(_POLL_SECONDS)


@router.post("/{study_id}:cancel", status_code=202, dependencies=SUBMITS, responses=responses(404, 409, 422))
def cancel(study_id: StudyId, studies: StudiesOf, holder: HolderOf) -> StudyDetail:
    """Stop a study gracefully; what is trained is kept."""
    return studies.cancel(study_id, holder)


@router.post("/{study_id}:resume", status_code=202, dependencies=SUBMITS, responses=responses(404, 409, 422))
def resume(study_id: StudyId, studies: StudiesOf, holder: HolderOf) -> StudyDetail:
    """Run what is missing of a cancelled, failed or incomplete study."""
    return studies.resume(study_id, holder)


@router.post("/{study_id}:prioritize", dependencies=SUBMITS, responses=responses(404, 422))
def prioritize(study_id: StudyId, studies: StudiesOf, holder: HolderOf, priority: Priority) -> StudyDetail:
    """Set its priority in the queue; trials of lower priority make room for it."""
    return studies.prioritize(study_id, priority, holder)


@router.post("/{study_id}:pause", dependencies=SUBMITS, responses=responses(404, 409, 422))
def pause(study_id: StudyId, studies: StudiesOf, holder: HolderOf) -> StudyDetail:
    """Grant it no devices; trials that run leave theirs at their next checkpoint, to go on later."""
    return studies.pause(study_id, holder, True)


@router.post("/{study_id}:unpause", dependencies=SUBMITS, responses=responses(404, 422))
def unpause(study_id: StudyId, studies: StudiesOf, holder: HolderOf) -> StudyDetail:
    """Let a paused study go on."""
    return studies.pause(study_id, holder, False)


@router.get("/{study_id}/timeline", responses=responses(404, 422))
def timeline(study_id: StudyId, studies: StudiesOf) -> TimelineAnswer:
    """When its trials had devices."""
    return studies.timeline(study_id)
