"""The pages of schedules: when each is due, what its runs were, and what moved between them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from api.access.callers import HolderOf
from api.dependencies import StoreOf
from api.pages.web import SUBMITS, page, router, see
from api.schedules.endpoints import ScheduleId
from api.schedules.service import ScheduleService


def _service(store: StoreOf) -> ScheduleService:
    return ScheduleService(store)


SchedulesOf = Annotated[ScheduleService, Depends(_service)]
routes: APIRouter = router()


@routes.get("/schedules")
def schedules(request: Request, service: SchedulesOf) -> Response:
    """All of them."""
    return page(request, "schedules.html", schedules=service.all().items)


@routes.get("/schedules/{schedule_id}")
def schedule(request: Request, schedule_id: ScheduleId, service: SchedulesOf) -> Response:
    """One, with its runs."""
    return page(request, "schedule.html", schedule=service.detail(schedule_id))


@routes.post("/schedules/{schedule_id}/pause", dependencies=SUBMITS)
def pause(schedule_id: ScheduleId, service: SchedulesOf, holder: HolderOf) -> Response:
    """Nothing of it is submitted until it is resumed."""
    service.pause(schedule_id, holder)
    return see(f"/schedules/{schedule_id}")


@routes.post("/schedules/{schedule_id}/resume", dependencies=SUBMITS)
def resume(schedule_id: ScheduleId, service: SchedulesOf, holder: HolderOf) -> Response:
    """It is due from now on."""
    service.resume(schedule_id, holder)
    return see(f"/schedules/{schedule_id}")


@routes.post("/schedules/{schedule_id}/remove", dependencies=SUBMITS)
def remove(schedule_id: ScheduleId, service: SchedulesOf, holder: HolderOf) -> Response:
    """It is never due again; its studies stay."""
    service.remove(schedule_id, holder)
    return see("/schedules")
