"""Routes of the queue and of owners."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import ValidationError

from api.access.callers import AuditOf, HolderOf, needs
from api.bodies import read_data
from api.dependencies import StoreOf
from api.problems import ProblemError, responses
from api.queue.schemas import OwnerAnswer, OwnerList, PlaceAnswer, QueueAnswer, Quota
from api.times import maybe_at
from orchestrator.access.schema import Scope
from orchestrator.machine import TrialState
from orchestrator.records.schema import Owner
from studies.problems import Problem, problems_of

_FORMS = ("application/json", "application/yaml")
_BODY = {"requestBody": {"required": True, "content": {form: {"schema": {"$ref": "#/components/schemas/Quota"}} for form in _FORMS}}}
queue = APIRouter(prefix="/v1/queue", tags=["queue"], dependencies=[needs(Scope.READ)])
owners = APIRouter(prefix="/v1/owners", tags=["queue"], dependencies=[needs(Scope.ADMIN)])


async def _quota(request: Request) -> Quota:
    data: Any = await read_data(request)
    try:
        return Quota.model_validate(data)
    except ValidationError as error:
        problems = (
            problems_of(error, (), Quota) if isinstance(data, dict) else [Problem("", "a quota is a mapping: devices, hours, weight")]
        )
        raise ProblemError(422, "invalid-quota", "The quota is not valid", problems[0].message, problems) from None


@queue.get("")
def places(store: StoreOf) -> QueueAnswer:
    """Who waits for devices, why, and when they are thought to come."""
    held = store.devices_held()
    return QueueAnswer(
        items=[
            PlaceAnswer(
                place=place.number,
                study=study.id,
                name=study.name,
                owner=study.owner,
                priority=study.priority,
                reason=place.reason,
                expected=maybe_at(place.expected),
                ready=study.counts.get(TrialState.READY, 0),
                running=held.get(study.id, 0),
            )
            for place, study in store.places()
        ]
    )


@owners.get("")
def all_(store: StoreOf) -> OwnerList:
    """Owners that have a quota or have used devices, by name."""
    return OwnerList(items=[_answer(owner) for owner in store.owners()])


@owners.put("/{name}", openapi_extra=_BODY, responses=responses(400, 413, 422))
def put(
    name: Annotated[str, Path(min_length=1, max_length=200)],
    wanted: Annotated[Quota, Depends(_quota)],
    store: StoreOf,
    holder: HolderOf,
    audit: AuditOf,
) -> OwnerAnswer:
    """Set what an owner may have; what is left out has no limit."""
    owner = store.set_quota(name, wanted.devices, wanted.hours, wanted.weight)
    audit.note(holder, "owner.quota", f"owner {name}"[:64], **wanted.model_dump())
    return _answer(owner)


def _answer(owner: Owner) -> OwnerAnswer:
    return OwnerAnswer(
        name=owner.name,
        devices=owner.devices,
        hours=owner.hours,
        weight=owner.weight,
        month=owner.month,
        month_hours=owner.month_hours,
    )
