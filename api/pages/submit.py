"""The page to submit a study: an editor that is checked as one types, with what would run beside it."""

import contextlib
import secrets
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from api.access.callers import HolderOf
from api.dependencies import SettingsOf, StoreOf
from api.pages.completion import complete
from api.pages.dependencies import ReadingOf
from api.pages.editing import PlacedProblem, check, placed
from api.pages.reading import Reading
from api.pages.studies import LARGEST
from api.pages.study import SCALES
from api.pages.web import SUBMITS, environment, form, page, router, see
from api.pages.wording import as_yaml
from api.problems import ProblemError, not_found
from api.schedules.service import ScheduleService, read_schedule
from api.searches.endpoints import best_of
from api.studies.schemas import PlanAnswer
from api.studies.service import Studies
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from studies.documents import read_document
from studies.problems import Problem
from studies.shipped import shipped_studies, shipped_study
from studies.spec import StudySpec
from studies.tables.shipped import table_ids

Fields = Annotated[dict[str, str], Depends(form)]
routes: APIRouter = router()


@dataclass(frozen=True)
class Written:
    """What the editor begins with. lost: what of the study it was made from the text does not say."""

    text: str
    lost: str = ""


@routes.get("/submit")
def editor(
    request: Request,
    reading: ReadingOf,
    store: StoreOf,
    settings: SettingsOf,
    study: Annotated[int | None, Query(ge=1, le=LARGEST)] = None,
    table: Annotated[str, Query(max_length=200)] = "",
    scale: Annotated[str, Query(max_length=16)] = "",
    rows: bool = False,
    best: Annotated[int | None, Query(ge=1, le=LARGEST)] = None,
) -> Response:
    """The editor, empty or with a study to begin with: a copy of one, one with the best values that its search found, or one that ships
    (`table`, which may be an example's id too), of a table with all its rows where they are to be changed."""
    if study:
        written = _copy(reading, study, scale)
    elif best:
        written = Written(as_yaml(best_of(best, store).spec))
    else:
        written = _shipped(table, scale, rows) if table else Written("")
    return _editor(request, store, settings, written)


@routes.post("/submit", dependencies=SUBMITS)
def submit(request: Request, fields: Fields, store: StoreOf, settings: SettingsOf, holder: HolderOf) -> Response:
    """Makes the study, or shows what is wrong with it. The form's key makes one study however often it is sent."""
    text = fields.get("text", "")
    submission, problems = check(text)
    if submission is None or fields.get("wish") == "check":
        return _editor(request, store, settings, Written(text), problems, 200 if fields.get("wish") == "check" else 422)
    made = Studies(store, settings).submit(submission, fields.get("key") or None, holder)
    return see(f"/studies/{made.id}")


@routes.post("/schedules", dependencies=SUBMITS)
def add_schedule(request: Request, fields: Fields, store: StoreOf, settings: SettingsOf, holder: HolderOf) -> Response:
    """Makes a schedule of the study, or shows what is wrong with it."""
    text = fields.get("text", "")
    submission, problems = check(text)
    if submission is not None:
        wanted = {"study": read_document(text, "yaml")} | {name: fields[name] for name in ("cron", "tz", "overlap") if fields.get(name)}
        try:
            return see(f"/schedules/{ScheduleService(store).add(read_schedule(wanted), holder).id}")
        except ProblemError as refused:
            problems = placed(text, [Problem(each.field, each.message) for each in refused.document.errors])
    return _editor(request, store, settings, Written(text), problems, 422)


@routes.post("/submit/check")
def checked(fields: Fields, store: StoreOf, settings: SettingsOf) -> JSONResponse:
    """What is wrong with a text, or what it would run, for the editor."""
    submission, problems = check(fields.get("text", ""))
    plan = Studies(store, settings).plan(submission) if submission else None
    shown = environment().get_template("plan.html").render(plan=plan, problems=problems, empty=not fields.get("text", "").strip())
    return JSONResponse({"problems": [asdict(each) for each in problems], "html": shown})


@routes.post("/submit/complete")
def completed(fields: Fields) -> JSONResponse:
    """What may be typed at a place, for the editor."""
    line, column = (int(fields[name]) if fields.get(name, "").isdecimal() else 0 for name in ("line", "column"))
    start, options = complete(fields.get("text", ""), line, column)
    return JSONResponse({"start": start, "options": [asdict(option) for option in options]})


def _editor(
    request: Request, store: Store, settings: Settings, written: Written, problems: list[PlacedProblem] | None = None, status: int = 200
) -> Response:
    plan: PlanAnswer | None = None
    shipped = shipped_studies().values()
    if not problems:
        submission, problems = check(written.text)
        plan = Studies(store, settings).plan(submission) if submission else None
    return page(
        request,
        "submit.html",
        status,
        written=written,
        problems=problems,
        plan=plan,
        empty=not written.text.strip(),
        key=secrets.token_hex(16),
        examples=[each for each in shipped if each.id not in table_ids()],
        tables=[each for each in shipped if each.id in table_ids()],
        scales=SCALES,
        taken=request.query_params.get("table"),
        rows=bool(request.query_params.get("rows")),
        at=request.query_params.get("scale") or "nano",
    )


def _shipped(name: str, scale: str, rows: bool) -> Written:
    """A study that ships; a table by its id, as `retort submit` takes it, unless its rows are to be written out."""
    if name in table_ids() and not rows:
        return Written(as_yaml({"table": name, "scale": scale or "nano"}))
    found = shipped_study(name)
    if found is None:
        raise not_found("shipped study", name)
    data: dict[str, Any] = found.data
    first = {field: data[field] for field in ("id", "name", "title", "paper", "dataset") if field in data}
    return Written(as_yaml(first | {"scale": scale or data.get("scale", "nano")} | {k: v for k, v in data.items() if k != "scale"}))


def _copy(reading: Reading, study_id: int, scale: str) -> Written:
    """A stored study as it may be submitted again."""
    study, presentation = reading.study(study_id), reading.store.presentation(study_id)
    spec: dict[str, Any] = study.spec
    chosen = scale or spec["scale"]
    if presentation.document:
        return Written(as_yaml(presentation.document | {"scale": chosen}))
    if presentation.table in table_ids():  # of before documents were kept
        return Written(as_yaml({"table": presentation.table, "scale": chosen, "seeds": spec["seeds"]}))
    with contextlib.suppress(ValidationError):  # one that names what is gone stays as it was stored, and is told so when it is checked
        spec = StudySpec.model_validate(spec).model_dump(mode="json", exclude_defaults=True)
    lost = (
        "its rows' titles, groups and published numbers, which are its table's" if any(row.published for row in presentation.rows) else ""
    )
    return Written(
        as_yaml({"name": spec["name"], "dataset": spec["dataset"], "scale": chosen} | {k: v for k, v in spec.items() if k != "scale"}), lost
    )
