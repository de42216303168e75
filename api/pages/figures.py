"""The page of a study's pictures; each is drawn when the browser asks for it."""

from fastapi import APIRouter, Request, Response

from api.dependencies import StoreOf
from api.figures.endpoints import figures
from api.pages.dependencies import ReadingOf
from api.pages.web import page, router
from api.studies.endpoints import StudyId

routes: APIRouter = router()


@routes.get("/studies/{study_id}/figures")
def figures_of(request: Request, study_id: StudyId, reading: ReadingOf, store: StoreOf) -> Response:
    """All of them, as they are by now."""
    return page(request, "figures.html", study=reading.study(study_id), figures=figures(study_id, store).items)
