"""Routes of schedules."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from api.access.callers import HolderOf, needs
from api.bodies import read_data
from api.dependencies import StoreOf
from api.problems import responses
from api.schedules.schemas import NewSchedule, ScheduleDetail, ScheduleList
from api.schedules.service import ScheduleService, read_schedule
from orchestrator.access.schema import Scope

_LARGEST = 2**63 - 1
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {form: {"schema": {"$ref": "#/components/schemas/NewSchedule"}} for form in ("application/json", "application/yaml")},
    }
}


def _service(store: StoreOf) -> ScheduleService:
    return ScheduleService(store)


async def _wanted(request: Request) -> NewSchedule:
    return read_schedule(await read_data(request))


SchedulesOf = Annotated[ScheduleService, Depends(_service)]
Wanted = Annotated[NewSchedule, Depends(_wanted)]
ScheduleId = Annotated[int, Path(ge=1, le=_LARGEST)]
SUBMITS = [needs(Scope.SUBMIT)]
router = APIRouter(prefix="/v1/schedules", tags=["schedules"], dependencies=[needs(Scope.READ)])


@router.post("", status_code=201, dependencies=SUBMITS, openapi_extra=_BODY, responses=responses(400, 413, 415, 422))
def add(wanted: Wanted, schedules: SchedulesOf, holder: HolderOf, response: Response) -> ScheduleDetail:
    """Submit a study whenever a cron expression is due."""
    made = schedules.add(wanted, holder)
    response.headers["Location"] = f"/v1/schedules/{made.id}"
    return made


@router.get("")
def all_(schedules: SchedulesOf) -> ScheduleList:
    """Schedules, oldest first."""
    return schedules.all()


@router.get("/{schedule_id}", responses=responses(404, 422))
def schedule(schedule_id: ScheduleId, schedules: SchedulesOf) -> ScheduleDetail:
    """One schedule with its last runs and what moved in them."""
    return schedules.detail(schedule_id)


@router.post("/{schedule_id}:pause", dependencies=SUBMITS, responses=responses(404, 422))
def pause(schedule_id: ScheduleId, schedules: SchedulesOf, holder: HolderOf) -> ScheduleDetail:
    """Submit nothing of it until it is resumed."""
    return schedules.pause(schedule_id, holder)


@router.post("/{schedule_id}:resume", dependencies=SUBMITS, responses=responses(404, 422))
def resume(schedule_id: ScheduleId, schedules: SchedulesOf, holder: HolderOf) -> ScheduleDetail:
    """Submit again what is due from now on."""
    return schedules.resume(schedule_id, holder)


@router.delete("/{schedule_id}", status_code=204, dependencies=SUBMITS, responses=responses(404, 422))
def remove(schedule_id: ScheduleId, schedules: SchedulesOf, holder: HolderOf) -> None:
    """Submit nothing of it any more; its studies stay, and one that runs goes on."""
    schedules.remove(schedule_id, holder)
