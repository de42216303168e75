"""The tables that ship say what the papers print, and every name and option in them is one that the catalogue has.

`published.yaml` is this project's own copy of the printed numbers, kept beside the test so that an edit of a table shows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

import studies
from studies.catalog import in_form, misfit_of, of_pdf_distil, start_of
from studies.datasets import datasets
from studies.methods import methods
from studies.recipes import RECIPES, usual_recipe
from studies.spec import MethodUse
from studies.tables.document import NamedNetwork, NamedTeacher, PaperFile, PublishedCell, TableFile, TableGroup, TableRow

FOLDER = Path(studies.__file__).parent / "tables"
PAPERS = sorted(path.parent.name for path in FOLDER.glob("*/paper.yaml"))
TABLES = sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.yaml") if path.stem != "paper")
PRINTED: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text())
PUBLISHED = {table: printed for table, printed in PRINTED.items() if "/table-" in table}  # those of the papers themselves


@cache
def paper_of(key: str) -> PaperFile:
    return PaperFile.model_validate(yaml.safe_load((FOLDER / key / "paper.yaml").read_text()))


@cache
def table_of(table: str) -> TableFile:
    return TableFile.model_validate(yaml.safe_load((FOLDER / f"{table}.yaml").read_text()))


def rows_of(table: str) -> dict[str, tuple[TableGroup, TableRow]]:
    return {name: (group, row) for group in table_of(table).all_groups for name, row in group.rows.items()}


def cells_of(table: str, row: TableRow) -> list[PublishedCell | None]:
    """What is printed in a row, by the table's columns."""
    metrics = [column.metric for column in table_of(table).all_columns]
    given = row.published or []
    listed = [given.get(metric) for metric in metrics] if isinstance(given, dict) else given
    return [PublishedCell(value=cell) if isinstance(cell, float) else cell for cell in listed]


@dataclass(frozen=True)
class Experiment:
    """What a row trains, or what a teacher's row shows."""

    student: NamedNetwork | None
    teacher: NamedTeacher | None
    distillers: tuple[MethodUse, ...]
    schedule: dict[str, Any]


def experiment_of(table: str, name: str) -> Experiment:
    group, row = rows_of(table)[name]
    if row.same_as:
        return experiment_of(*target_of(table, row.same_as))
    said = table_of(table)
    paper = paper_of(str(said.paper))
    networks, teachers = {**paper.networks, **said.networks}, {**paper.teachers, **said.teachers}
    if row.is_teacher:
        return Experiment(None, teachers[str(row.teacher)], (), {})
    student = networks[str(row.student or group.student or said.student)]
    taught_by = row.teacher or group.teacher or said.teacher
    named = [row.distiller] if isinstance(row.distiller, str) else row.distiller or []
    alone = {"weight": row.weight, "options": row.options} if isinstance(row.distiller, str) else {}
    uses = tuple(MethodUse(id=use, **alone) if isinstance(use, str) else use for use in named)
    return Experiment(student, teachers[taught_by] if taught_by and uses else None, uses, row.schedule.model_dump())


def target_of(table: str, same_as: str) -> tuple[str, str]:
    """(table, row) that `same_as` names."""
    return (table, same_as) if "/" not in same_as else tuple(same_as.rsplit("/", 1))  # type: ignore[return-value]


def experiments(table: str) -> Iterator[tuple[str, Experiment]]:
    for name, (_, row) in rows_of(table).items():
        if row.of is None:
            yield name, experiment_of(table, name)


def test_every_table_of_the_four_papers_is_there() -> None:
    assert PAPERS == ["frs2021", "ld2022", "pdf-distil2021", "zhang2021"]
    own = [table for table in TABLES if not table_of(table).beyond]
    assert [table for table in own if table_of(table).kind == "table"] == sorted(PUBLISHED)
    assert [table for table in own if table_of(table).kind == "figure"] == [
        "ld2022/figure-2",
        "pdf-distil2021/figure-4",
        "zhang2021/figure-5",
        "zhang2021/figure-7",
        "zhang2021/figure-8",
    ]


def test_the_copy_has_198_rows_and_969_numbers() -> None:
    rows = [row for table in PUBLISHED.values() for row in table["rows"].values()]
    assert (len(rows), sum(value is not None for row in rows for value in row)) == (198, 969)


def test_every_table_with_numbers_is_in_the_copy() -> None:
    assert [table for table in TABLES if table_of(table).kind == "table"] == sorted(PRINTED)


@pytest.mark.parametrize("table", sorted(PRINTED))
def test_a_table_has_every_row_in_order_and_every_number(table: str) -> None:
    printed = PRINTED[table]
    assert [column.metric for column in table_of(table).all_columns] == printed["columns"]
    rows = rows_of(table)
    assert list(rows) == list(printed["rows"])
    for name, (_, row) in rows.items():
        assert [cell and cell.value for cell in cells_of(table, row)] == printed["rows"][name], name


@pytest.mark.parametrize("table", sorted(PUBLISHED))
def test_the_rows_stand_in_the_source_in_the_same_order(table: str) -> None:
    lines = [str(row.line).split("-")[0] for _, row in rows_of(table).values()]
    assert all(int(above) <= int(below) for above, below in pairwise(lines))
    paper = paper_of(str(table_of(table).paper))
    assert (paper.lines, table_of(table).label) == (paper.lines or "", f"Table {table.rsplit('-', 1)[1]}")


def test_numbers_that_count_something_else_are_never_judged() -> None:
    """26 Params cells count a classifier besides the detector or repeat another row's; nothing else is taken out by a cell."""
    unjudged = [
        (table, column.metric)
        for table in PUBLISHED
        for _, row in rows_of(table).values()
        for column, cell in zip(table_of(table).all_columns, cells_of(table, row), strict=True)
        if cell and "tolerance" in cell.model_fields_set and cell.tolerance is None
    ]
    assert unjudged == [("zhang2021/table-1", "Params")] * 16 + [("zhang2021/table-7", "Params")] * 10


@pytest.mark.parametrize("table", TABLES)
def test_a_table_names_rows_networks_and_a_dataset_that_there_are(table: str) -> None:
    said = table_of(table)
    assert said.paper == table.split("/")[0]
    assert (said.dataset or paper_of(said.paper).dataset) in datasets()
    rows = rows_of(table)
    for name, (_, row) in rows.items():
        assert {row.of, row.minus, row.baseline} - {None} <= rows.keys(), name
        assert len(row.published or said.columns) == len(said.columns), name
        if row.same_as:
            other, target = target_of(table, row.same_as)
            _, same = rows_of(other)[target]
            assert same.same_as is None, f"{name}: name the row that {row.same_as} names"
            assert (same.of, table_of(other).dataset) == (None, said.dataset), name
    for name, experiment in experiments(table):
        assert experiment.student or experiment.teacher, name


@pytest.mark.parametrize("table", TABLES)
def test_a_row_that_is_another_tables_has_the_student_and_teacher_of_its_group(table: str) -> None:
    said = table_of(table)
    paper = paper_of(str(said.paper))
    for name, (group, row) in rows_of(table).items():
        experiment = experiment_of(table, name) if row.same_as else None
        student, teacher = group.student or said.student, group.teacher or said.teacher
        if experiment and experiment.student and student:
            assert experiment.student == {**paper.networks, **said.networks}[student], name
        if experiment and experiment.teacher and teacher:
            assert experiment.teacher == {**paper.teachers, **said.teachers}[teacher], name


@pytest.mark.parametrize("table", TABLES)
def test_the_networks_of_a_table_fit_and_train_by_a_recipe_made_for_them(table: str) -> None:
    dataset = table_of(table).dataset or paper_of(str(table_of(table).paper)).dataset or ""
    for name, experiment in experiments(table):
        for network in filter(None, (experiment.student, experiment.teacher)):
            assert misfit_of(network.detector, network.backbone, network.form) is None, name
            recipe = RECIPES[network.recipe] if network.recipe else usual_recipe("paper", network.detector, network.form, dataset)
            assert (recipe.images == "pdf") == of_pdf_distil(network.form), name
            assert isinstance(network, NamedTeacher) or start_of(network.detector, network.backbone, network.form), name


@pytest.mark.parametrize("table", TABLES)
def test_the_distillers_of_a_table_have_their_options_and_fit_their_pair(table: str) -> None:
    for name, experiment in experiments(table):
        for use in experiment.distillers:
            assert experiment.student, name
            assert experiment.teacher, f"{name} has no teacher"
            method = methods()[use.id]
            options = method.options.model_validate(use.options)
            ours, theirs = (in_form(n.detector, n.form, n.backbone) for n in (experiment.student, experiment.teacher))
            assert method.misfit(ours, theirs, options) is None, name


@pytest.mark.parametrize("paper", PAPERS)
def test_every_network_and_teacher_of_a_paper_is_used(paper: str) -> None:
    tables = [table for table in TABLES if table.startswith(f"{paper}/")]
    used = [experiment for table in tables for _, experiment in experiments(table)]
    for name, network in paper_of(paper).networks.items():
        assert any(experiment.student == network for experiment in used), name
    for name, teacher in paper_of(paper).teachers.items():
        assert any(experiment.teacher == teacher for experiment in used), name


def test_teachers_of_self_distillation_are_as_narrow_as_their_students() -> None:
    pairs = [experiment for _, experiment in experiments("ld2022/table-2") if experiment.teacher and experiment.student]
    assert len(pairs) == 3
    for pair in pairs:
        assert pair.teacher
        assert pair.teacher.width == 8
        same = {"detector", "backbone", "form", "recipe", "schedule"}
        assert pair.student
        assert pair.student.model_dump(include=same) == pair.teacher.model_dump(include=same)
