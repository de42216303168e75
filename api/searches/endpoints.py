"""Route of what a study's searches found."""

from collections.abc import Iterator

from fastapi import APIRouter

from api.access.callers import needs
from api.dependencies import StoreOf
from api.problems import conflict, not_found, responses
from api.searches.schemas import BestAnswer, BestList, GoalAnswer
from api.studies.endpoints import StudyId
from orchestrator.access.schema import Scope
from orchestrator.records.errors import NoSuchStudy
from orchestrator.reporting.build import build
from orchestrator.reporting.table import Table
from orchestrator.searching.filled import filled
from orchestrator.searching.tried import Tried, best
from studies.presentation import Searched
from studies.spec import Search

router = APIRouter(prefix="/v1/studies", tags=["studies"], dependencies=[needs(Scope.READ)])


@router.get("/{study_id}/best", responses=responses(404, 409, 422))
def best_of(study_id: StudyId, store: StoreOf) -> BestList:
    """The best values of every arm that is searched, and the spec with them filled in."""
    try:
        study = store.study(study_id)
    except NoSuchStudy:
        raise not_found("study", str(study_id)) from None
    table = build(study, store.presentation(study_id), store.trials(study_id))
    if not table.searches:
        raise conflict("no-search", f"study {study_id} draws no values: its spec has no search with an algorithm", "search.algorithm")
    search = Search.model_validate(study.spec["search"])
    tried = store.tried(study_id)
    found = {each.arm: best(tried.get(each.arm, ()), search.objective) for each in table.searches}
    items = [answer for each in table.searches for answer in _answers(each, found[each.arm], table)]
    return BestList(final=not study.searching, items=items, spec=filled(study.spec, found))


def _answers(searched: Searched, found: list[Tried], table: Table) -> Iterator[BestAnswer]:
    rows = {row.id: row for row in table.rows}
    for tried in found:
        assert tried.end
        row = rows.get(f"{searched.arm}~best-{tried.number}")
        goals = []
        for goal, value in zip(searched.goals, tried.end.goals, strict=True):
            cell = row.cells.get(goal.metric) if row else None
            confirmed, half_width = (cell.mean, cell.half_width) if cell else (None, None)
            goals.append(GoalAnswer(metric=goal.metric, over=goal.over, searched=value, confirmed=confirmed, half_width=half_width))
        yield BestAnswer(arm=searched.arm, title=searched.title, number=tried.number, values=dict(tried.values), goals=goals)
