"""The route of a study's output: the drivers' and each trial's, in pieces, while it runs and afterwards."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.access.callers import needs
from api.dependencies import SettingsOf, StoreOf
from api.problems import invalid_request, not_found, responses
from api.studies.endpoints import StudyId
from orchestrator.access.schema import Scope
from orchestrator.outputs import Cursor, outputs_of, read
from orchestrator.records.errors import NoSuchStudy, NoSuchTrial

router = APIRouter(prefix="/v1/studies", tags=["studies"], dependencies=[needs(Scope.READ)])


class LogAnswer(BaseModel):
    """A piece of output."""

    text: str = Field(description="whole lines as they were printed; nothing in them is escaped")
    cursor: str = Field(description="where the next piece begins")
    more: bool = Field(description="whether it is there already")
    ended: bool = Field(description="whether the study is at rest, so that nothing will be added until it is resumed")


@router.get("/{study_id}/logs", responses=responses(404, 422))
def logs(
    study_id: StudyId,
    store: StoreOf,
    settings: SettingsOf,
    trial: Annotated[str | None, Query(max_length=300, description="name of a trial; without it the output of the study's drivers")] = None,
    cursor: Annotated[str, Query(max_length=40, description="of the piece before; without it from the beginning")] = "0.0",
) -> LogAnswer:
    """What its drivers or one of its trials printed."""
    try:
        place = Cursor.parse(cursor)
    except ValueError:
        raise invalid_request(422, "cursor", "give the `cursor` of the piece before, or none") from None
    try:
        ended = store.study(study_id).state.final  # before the reading: what is written in between is not missed
        piece = read(outputs_of(store, settings, study_id, trial), place, ended)
    except NoSuchStudy:
        raise not_found("study", str(study_id)) from None
    except NoSuchTrial:
        raise not_found("trial", str(trial)) from None
    return LogAnswer(text=piece.text, cursor=str(piece.cursor), more=piece.more, ended=ended)
