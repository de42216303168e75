"""Routes of plans."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from api.access.callers import needs
from api.bodies import read_body
from api.dependencies import StoreOf
from api.plans import service
from api.plans.schemas import PlansAnswer, PlansRequest
from api.problems import responses
from orchestrator.access.schema import Scope
from studies.submission import Submission

_FORMS = ("application/json", "application/yaml")
_SCHEMA = PlansRequest.model_json_schema()
router = APIRouter(prefix="/v1/plans", tags=["studies"], dependencies=[needs(Scope.READ)])


async def _read(request: Request) -> list[Submission]:
    return await read_body(request, service.read_submissions)


@router.post(
    "",
    openapi_extra={"requestBody": {"required": True, "content": {form: {"schema": _SCHEMA} for form in _FORMS}}},
    responses=responses(400, 413, 415, 422),
)
def plans(submissions: Annotated[list[Submission], Depends(_read)], store: StoreOf) -> PlansAnswer:
    """What several studies would run, one after the other: a trial that two of them have counts for the first."""
    return service.plans(submissions, store)
