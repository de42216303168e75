"""All routes of the pages."""

from fastapi import APIRouter

from api.pages import assets, compare, interface, live, running, schedules, studies, study, submit, tables, trial

router = APIRouter()
for each in (studies, study, trial, compare, tables, schedules, submit, running, interface, live, assets):
    router.include_router(each.routes)
