"""The papers' tables: all at a glance, and each one row by row, with the study that measured it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from api.pages.dependencies import ReadingOf
from api.pages.study import SCALES, grouped, headline_of
from api.pages.web import page, router
from api.problems import not_found
from orchestrator.machine import StudyState
from orchestrator.records.schema import Study
from orchestrator.reporting.build import build
from orchestrator.reporting.claims import Standing
from orchestrator.reporting.overview import TableStanding, arranged, standing
from orchestrator.reporting.summary import summary
from orchestrator.reporting.table import Row, Table
from orchestrator.reporting.verdicts import Verdict
from studies.submission import read_submission
from studies.tables.document import PaperFile
from studies.tables.shipped import papers, read_paper, read_table, table_ids

STUDIES = 20  # of a table that are listed
routes: APIRouter = router()


@dataclass(frozen=True)
class Paper:
    """A paper with its tables, each at every scale it was run at."""

    paper: PaperFile
    tables: list[TableStanding]


@dataclass(frozen=True)
class Outcome:
    """What became of a row. cells: its published numbers by verdict. gain: whether the sign of its published gain holds."""

    cells: Mapping[Verdict, int]
    gain: Standing | None


@routes.get("/tables")
def tables(request: Request, reading: ReadingOf) -> Response:
    """All of them, by paper."""
    found = arranged((standing(reading.table(study)) for study in reading.latest_of_tables()), table_ids())
    by_paper = [Paper(read_paper(key), [each for each in found if each.paper == key]) for key in papers()]
    running = Counter(reading.tables_of(study.id for study in reading.busy()).values())
    return page(
        request,
        "tables.html",
        papers=by_paper,
        titles={each: title_of(each) for each in table_ids()},
        running=running,
        verdicts=list(Verdict),
        standings=list(Standing),
        last_event=reading.last_event(),
    )


@routes.get("/tables/{paper}/{name}")
def table(
    request: Request,
    paper: Annotated[str, Path(max_length=64)],
    name: Annotated[str, Path(max_length=64)],
    reading: ReadingOf,
    scale: Annotated[str, Query(max_length=16)] = "",
) -> Response:
    """One of them, as its newest finished study at a scale left it."""
    table_id = f"{paper}/{name}"
    if table_id not in table_ids():
        raise not_found("table", table_id)
    newest = {study.spec["scale"]: study for study in reading.latest_of_tables() if reading.tables_of([study.id]).get(study.id) == table_id}
    chosen = scale if scale in SCALES else next((each for each in reversed(SCALES) if each in newest), "paper")
    made = reading.table(newest[chosen]) if chosen in newest else not_run(table_id, chosen)
    return page(
        request,
        "table.html",
        id=table_id,
        paper=read_paper(paper),
        table=made,
        study=newest.get(chosen),
        groups=grouped(made.shown, False),
        outcomes=outcomes(made),
        counts=summary(made),
        headline=headline_of(made),
        scale=chosen,
        scales=SCALES,
        measured=set(newest),
        studies=reading.studies_of_table(table_id, STUDIES),
        last_event=reading.last_event(),
    )


@cache
def not_run(table_id: str, scale: str) -> Table:
    """A shipped table before anything was measured."""
    submission = read_submission({"table": table_id, "scale": scale})
    nothing = Study(id=0, name=submission.spec.name, spec=submission.spec.model_dump(mode="json"), state=StudyState.FINISHED)
    return build(nothing, submission.presentation, [])


def outcomes(made: Table) -> dict[str, Outcome]:
    """What became of each row, by its id. The gain is that in the headline metric."""
    gains = {gain.row: gain.standing for gain in made.claims.gains if gain.metric == made.claims.headline}
    return {row.id: Outcome(_verdicts(row), gains.get(row.id)) for row in made.rows}


def _verdicts(row: Row) -> Mapping[Verdict, int]:
    counts = Counter(printed.verdict for printed in row.printed.values() if printed.verdict)
    return {verdict: counts[verdict] for verdict in Verdict if counts[verdict]}


@cache
def title_of(table_id: str) -> str:
    """The title of a shipped table."""
    return str((read_table(table_id) or {}).get("title", table_id))
