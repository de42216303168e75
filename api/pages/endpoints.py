"""All routes of the pages."""

from fastapi import APIRouter

from api.pages import assets, compare, figures, live, running, schedules, studies, study, submit, tables, trial

router = APIRouter()
for each in (studies, study, figures, trial, compare, tables, schedules, submit, running, live, assets):
    router.include_router(each.routes)
