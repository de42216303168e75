"""The page of one study: its table, gains, curves, timeline and trials, and what can be done with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, get_args

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from api.access.callers import HolderOf
from api.dependencies import SettingsOf, StoreOf
from api.pages.charts import curves, forest, timeline
from api.pages.dependencies import MLflowOf, ReadingOf
from api.pages.web import SUBMITS, page, router, see
from api.studies.endpoints import StudyId
from api.studies.service import Studies
from orchestrator.machine import TrialState
from orchestrator.reporting.links import experiment_page
from orchestrator.reporting.rendering import FORMATS
from orchestrator.reporting.summary import summary
from orchestrator.reporting.table import Row, Table
from studies.catalog import COSTS, Scale
from studies.presentation import Searched, Tried

ROWS = 100  # of the table on a page
TRIALS = 50
BARS = 400  # of the timeline
COMBINATIONS = 50  # that a search tried
CURVES = 10  # arms whose curves are drawn
SCALES: tuple[Scale, ...] = get_args(Scale)
routes: APIRouter = router()
Page = Annotated[int, Query(ge=1, le=100_000)]


@dataclass(frozen=True)
class Group:
    """Rows under their heading."""

    heading: str | None
    rows: list[Row]


@dataclass(frozen=True)
class SearchPart:
    """What a search has tried. names: of the values that it draws. tried: the best first, then those without a result, newest first."""

    searched: Searched
    names: list[str]
    tried: list[Tried]

    @property
    def best(self) -> Tried | None:
        """That of the best first goal, as long as there is one."""
        return self.tried[0] if self.tried and self.tried[0].goals else None


@routes.get("/studies/{study_id}")
def study(
    request: Request,
    study_id: StudyId,
    reading: ReadingOf,
    mlflow: MLflowOf,
    sort: str = "",
    order: str = "down",
    rows: Page = 1,
    state: str = "",
    row: Annotated[str, Query(max_length=300)] = "",
    trials: Page = 1,
) -> Response:
    """All of it on one page."""
    found = reading.study(study_id)
    table = reading.table(found, mlflow)
    shown = sorted_rows(table, sort, order == "up")
    rows_page = shown[(rows - 1) * ROWS : rows * ROWS]
    only = next((each for each in table.rows if each.id == row), None)
    names = [run.trial for run in (*only.runs, *only.measurements)] if only else None
    of_state = TrialState(state) if state in {each.value for each in TrialState} else None
    jobs, total = reading.trials(study_id, of_state, names, (trials - 1) * TRIALS, TRIALS)
    headline = headline_of(table)
    return page(
        request,
        "study.html",
        study=found,
        table=table,
        mlflow=experiment_page(mlflow, found.experiment) if found.experiment and mlflow else None,
        groups=grouped(rows_page, bool(sort)),
        counts=summary(table) if table.judged else None,
        sort=sort,
        order=order,
        rows=rows,
        rows_pages=-(-len(shown) // ROWS),
        progress=reading.progress([found])[study_id],
        place=reading.store.place(study_id),
        attempts=reading.attempts(study_id),
        forest=forest(table, rows_page, headline),
        headline=headline,
        searches=[search_part(each) for each in table.searches],
        combinations=COMBINATIONS,
        accuracy=accuracy_of(table),
        curve_rows=[row.id for row in rows_page if row.runs][:CURVES],
        timeline=timeline(*reading.bars(study_id, BARS)),
        jobs=jobs,
        jobs_total=total,
        job_states=reading.trial_states(study_id),
        state=state,
        only=only,
        trials=trials,
        trials_pages=-(-total // TRIALS),
        scales=[scale for scale in SCALES if scale != table.scale],
        formats=FORMATS,
        notes=reading.happened(study_id, ("note", "regression"), 10),
        last_event=reading.last_event(study_id),
    )


@routes.get("/studies/{study_id}/curves")
def curves_of(
    study_id: StudyId,
    reading: ReadingOf,
    metric: Annotated[str, Query(max_length=100)] = "AP",
    row: Annotated[list[str] | None, Query(max_length=CURVES)] = None,
) -> JSONResponse:
    """Learning curves of some rows: epochs, and of each row the mean of its seeds with the least and the greatest."""
    table = reading.table(reading.study(study_id))
    chosen = [each for each in table.rows if each.id in set(row or ())]
    names = [run.trial for each in chosen for run in each.runs]
    return JSONResponse(curves(chosen, reading.epochs(study_id, names, metric)), headers={"Cache-Control": "no-store"})


@routes.post("/studies/{study_id}/cancel", dependencies=SUBMITS)
def cancel(study_id: StudyId, store: StoreOf, settings: SettingsOf, holder: HolderOf) -> Response:
    """Stop it; what is trained is kept."""
    Studies(store, settings).cancel(study_id, holder)
    return see(f"/studies/{study_id}")


@routes.post("/studies/{study_id}/pause", dependencies=SUBMITS)
def pause(study_id: StudyId, store: StoreOf, settings: SettingsOf, holder: HolderOf) -> Response:
    """Give its devices back at the next checkpoints, and take none."""
    Studies(store, settings).pause(study_id, holder, True)
    return see(f"/studies/{study_id}")


@routes.post("/studies/{study_id}/unpause", dependencies=SUBMITS)
def unpause(study_id: StudyId, store: StoreOf, settings: SettingsOf, holder: HolderOf) -> Response:
    """Let it go on."""
    Studies(store, settings).pause(study_id, holder, False)
    return see(f"/studies/{study_id}")


@routes.post("/studies/{study_id}/resume", dependencies=SUBMITS)
def resume(study_id: StudyId, store: StoreOf, settings: SettingsOf, holder: HolderOf) -> Response:
    """Run what is missing."""
    Studies(store, settings).resume(study_id, holder)
    return see(f"/studies/{study_id}")


def sorted_rows(table: Table, metric: str, rising: bool) -> list[Row]:
    """The shown rows, by what they measured in a metric; those without a result last."""
    rows = table.shown
    if metric == "arm":
        return sorted(rows, key=lambda row: row.title.lower(), reverse=not rising)
    if metric not in table.metrics:
        return rows
    with_result = [row for row in rows if metric in row.cells]
    return [
        *sorted(with_result, key=lambda row: row.cells[metric].mean, reverse=not rising),
        *(row for row in rows if metric not in row.cells),
    ]


def grouped(rows: Sequence[Row], flat: bool) -> list[Group]:
    """Rows under their headings; sorted ones go without."""
    groups: list[Group] = []
    for row in rows:
        heading = None if flat else row.group
        if not groups or groups[-1].heading != heading:
            groups.append(Group(heading, []))
        groups[-1].rows.append(row)
    return groups


def accuracy_of(table: Table) -> list[str]:
    """Metrics of the table's columns that say how good a detector is."""
    return [column.metric for column in table.columns if column.better is not None and column.metric not in COSTS]


def search_part(searched: Searched) -> SearchPart:
    """A search as it is listed."""
    names = dict.fromkeys(name for each in searched.tried for name in each.values)
    sign = 1 if searched.goals[0].less else -1
    done = sorted((each for each in searched.tried if each.goals), key=lambda each: sign * each.goals[0])
    return SearchPart(searched, list(names), [*done, *reversed([each for each in searched.tried if not each.goals])])


def headline_of(table: Table) -> str | None:
    """The metric that gains are shown in."""
    return table.claims.headline or next(iter(accuracy_of(table)), None)
