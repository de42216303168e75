"""Routes of the papers' tables."""

from collections.abc import Mapping

from fastapi import APIRouter

from api.access.callers import needs
from api.dependencies import StoreOf
from api.tables.schemas import CellCounts, ClaimCounts, TableAnswer, TableList
from orchestrator.access.schema import Scope
from orchestrator.reporting.claims import Standing
from orchestrator.reporting.overview import TableStanding, overview
from orchestrator.reporting.verdicts import Verdict
from studies.tables.shipped import table_ids

router = APIRouter(prefix="/v1/tables", tags=["tables"], dependencies=[needs(Scope.READ)])


@router.get("")
def tables(store: StoreOf) -> TableList:
    """What the newest finished study of each paper's table, at each scale, came to."""
    found = overview(store.latest_studies_of_tables(), store.presentation, store.trials, table_ids())
    return TableList(items=[_answer(standing) for standing in found])


def _answer(standing: TableStanding) -> TableAnswer:
    counts = standing.summary
    return TableAnswer(
        table=standing.table,
        paper=standing.paper,
        title=standing.title,
        scale=standing.scale,
        study=standing.study,
        seeds=standing.seeds,
        cells=CellCounts(**_named(counts.cells)) if counts else None,
        gains=ClaimCounts(**_named(counts.gains)) if counts else None,
        orders=ClaimCounts(**_named(counts.orders)) if counts else None,
    )


def _named(counts: Mapping[Verdict, int] | Mapping[Standing, int]) -> dict[str, int]:
    return {word.replace(" ", "_"): count for word, count in counts.items()}
