"""Studies or rows beside each other: differences seed by seed to a reference, with their 95% intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.pages.dependencies import ReadingOf
from api.pages.studies import LARGEST
from api.pages.web import page, router
from api.problems import invalid_request
from orchestrator.reporting.statistics import Estimate, difference
from orchestrator.reporting.table import Cell, Row, Table
from studies.catalog import COUNTED
from studies.presentation import Column

MOST = 40  # rows, or studies
routes: APIRouter = router()


@dataclass(frozen=True)
class Line:
    """A row of a comparison. over: its difference to the reference; None for the reference itself, and where one of both has no result."""

    pick: str
    title: str
    study: Table
    cell: Cell | None
    over: Estimate | None
    reference: bool


@dataclass(frozen=True)
class Group:
    """Lines that are compared with one reference."""

    heading: str | None
    lines: list[Line]


@routes.get("/compare")
def compare(
    request: Request,
    reading: ReadingOf,
    study: Annotated[list[Annotated[int, Query(ge=1, le=LARGEST)]] | None, Query(max_length=MOST)] = None,
    row: Annotated[list[Annotated[str, Query(max_length=300)]] | None, Query(max_length=MOST)] = None,
    metric: Annotated[str, Query(max_length=100)] = "",
    reference: Annotated[str, Query(max_length=300)] = "",
) -> Response:
    """Rows ("STUDY:ROW") with the first or the chosen one; or studies row by row with the first or the chosen one."""
    picks = list(dict.fromkeys(row or ()))
    ids = list(dict.fromkeys([*(study or ()), *(_study_of(pick) for pick in picks)]))
    tables = {each: reading.table(reading.study(each)) for each in ids}
    columns = {column.metric: column for table in tables.values() for column in table.columns}
    column = columns.get(metric) or next((each for each in columns.values() if each.better), None) or next(iter(columns.values()), None)
    groups: list[Group] = []
    if column and picks:
        rows = [(pick, *_row_of(pick, tables)) for pick in picks]
        chosen = reference if reference in picks else picks[0]
        groups = [Group(None, _lines(rows, chosen, column))]
    elif column and len(tables) > 1:
        first = int(reference) if reference.isdecimal() and int(reference) in tables else ids[0]
        groups = matched(tables, first, column)
    return page(
        request,
        "compare.html",
        tables=tables,
        picks=picks,
        column=column,
        columns=columns,
        groups=groups,
        reference=reference or (picks[0] if picks else str(ids[0]) if ids else ""),
    )


def matched(tables: Mapping[int, Table], first: int, column: Column) -> list[Group]:
    """The rows that several tables have, by their ids, each with that of the table `first`."""
    groups = []
    for row in tables[first].shown:
        rows = [(f"{study}:{row.id}", table, same) for study, table in tables.items() for same in table.shown if same.id == row.id]
        if len(rows) > 1:
            groups.append(Group(row.title, _lines(rows, f"{first}:{row.id}", column)))
    return groups


def _lines(rows: Sequence[tuple[str, Table, Row]], reference: str, column: Column) -> list[Line]:
    base = next((row.cells.get(column.metric) for pick, _, row in rows if pick == reference), None)
    lines = []
    for pick, table, row in sorted(rows, key=lambda each: each[0] != reference):
        cell, own = row.cells.get(column.metric), pick == reference
        over = None
        if cell and base and not own and cell.by_seed and base.by_seed:
            over = difference(cell.by_seed, base.by_seed, interval=column.metric not in COUNTED)
        lines.append(Line(pick, row.title, table, cell, over, own))
    return lines


def _study_of(pick: str) -> int:
    number = pick.partition(":")[0]
    if not number.isdecimal() or not 1 <= int(number[:20]) <= LARGEST:
        raise invalid_request(422, "row", f"a row is STUDY:ROW, such as 3:fitnet; this is {pick[:80]!r}")
    return int(number)


def _row_of(pick: str, tables: Mapping[int, Table]) -> tuple[Table, Row]:
    table, name = tables[_study_of(pick)], pick.partition(":")[2]
    found = next((row for row in table.rows if row.id == name), None)
    if found is None:
        raise invalid_request(422, "row", f"study {table.study} has no row {name[:80]!r}")
    return table, found
