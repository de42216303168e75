"""All routes of the pages."""

from fastapi import APIRouter

from api.pages import assets, live, studies, study, tables

router = APIRouter()
for each in (assets.router, live.routes, studies.routes, study.routes, tables.routes):
    router.include_router(each)
