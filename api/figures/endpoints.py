"""Routes of a study's pictures, drawn from what is stored until now."""

import threading
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Path, Response

from api.access.callers import needs
from api.dependencies import StoreOf
from api.figures.schemas import FigureAnswer, FigureList
from api.problems import not_found, responses
from api.studies.endpoints import StudyId
from orchestrator.access.schema import Scope
from orchestrator.records.errors import NoSuchStudy
from orchestrator.records.store import Store

if TYPE_CHECKING:
    from orchestrator.figures.study import Draw

Name = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[a-z][A-Za-z0-9_.+-]*$")]
router = APIRouter(prefix="/v1/studies", tags=["studies"], dependencies=[needs(Scope.READ)])
_drawing = threading.Lock()  # matplotlib shares fonts and settings between figures


@router.get("/{study_id}/figures", responses=responses(404, 422))
def figures(study_id: StudyId, store: StoreOf) -> FigureList:
    """Its pictures by name."""
    base = f"/v1/studies/{study_id}/figures"
    return FigureList(
        items=[FigureAnswer(name=name, svg=f"{base}/{name}.svg", png=f"{base}/{name}.png") for name in _pictures(store, study_id)]
    )


@router.get("/{study_id}/figures/{name}.{format}", response_class=Response, responses=responses(404, 422))
def figure(study_id: StudyId, name: Name, format: Literal["svg", "png"], store: StoreOf) -> Response:
    """One picture as a file."""
    from orchestrator.figures.style import MEDIA_TYPES, rendered

    with _drawing:
        draw = _pictures(store, study_id).get(name)
        if draw is None:
            raise not_found("figure", name)
        return Response(rendered(draw(), format), media_type=MEDIA_TYPES[format])


def _pictures(store: Store, study_id: int) -> "dict[str, Draw]":
    """What draws each picture of a study; matplotlib is loaded when somebody asks."""
    from orchestrator.figures.study import Material, pictures_of

    try:
        return pictures_of(Material.of(store, study_id))
    except NoSuchStudy:
        raise not_found("study", str(study_id)) from None
