"""The pages of schedules: when each is due, what its runs were, and what moved between them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from api.dependencies import StoreOf
from api.pages.web import page, router, see
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


@routes.post("/schedules/{schedule_id}/pause")
def pause(schedule_id: ScheduleId, service: SchedulesOf) -> Response:
    """Nothing of it is submitted until it is resumed."""
    service.pause(schedule_id)
    return see(f"/schedules/{schedule_id}")


@routes.post("/schedules/{schedule_id}/resume")
def resume(schedule_id: ScheduleId, service: SchedulesOf) -> Response:
    """It is due from now on."""
    service.resume(schedule_id)
    return see(f"/schedules/{schedule_id}")


@routes.post("/schedules/{schedule_id}/remove")
def remove(schedule_id: ScheduleId, service: SchedulesOf) -> Response:
    """It is never due again; its studies stay."""
    service.remove(schedule_id)
    return see("/schedules")
