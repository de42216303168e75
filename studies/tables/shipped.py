"""The tables that come with Retort, by id ("zhang2021/table-3"): a folder a paper, a file a table, beside this module."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from studies.catalog import Scale
from studies.documents import read_document
from studies.problems import Problem, SpecError, nearest, problems_of
from studies.tables.document import PaperFile, ScaleChange

FOLDER = Path(__file__).resolve().parent
PAPER, TABLE = "paper.yaml", re.compile(r"(table|figure|extra)-[A-Za-z0-9-]+")


def papers() -> list[str]:
    """Keys of the papers whose tables ship, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{PAPER}"))


@functools.cache
def table_ids() -> tuple[str, ...]:
    """Ids of all shipped tables, a paper's tables before its figures, in the order of their numbers."""
    found = [path for path in FOLDER.glob("*/*.yaml") if TABLE.fullmatch(path.stem)]
    order = {"table": 0, "figure": 1, "extra": 2}

    def place(path: Path) -> tuple[str, int, int, str]:
        kind, _, rest = path.stem.partition("-")
        return path.parent.name, order[kind], int(rest) if rest.isdecimal() else 0, rest

    return tuple(f"{path.parent.name}/{path.stem}" for path in sorted(found, key=place))


def numbered_tables() -> list[str]:
    """Ids of the papers' own tables alone: no figures, nothing beyond."""
    return [table for table in table_ids() if table.partition("/")[2].startswith("table-")]


def read_table(table_id: str) -> dict[str, Any] | None:
    """The document of a shipped table with its id; None where there is none of that id."""
    return _copied(_table(table_id)) if table_id in table_ids() else None


@functools.cache
def read_paper(key: str) -> PaperFile:
    """What the tables of a paper share. Raises SpecError where no paper of that key ships."""
    if key not in papers():
        near = nearest(key, papers())
        hint = f"; did you mean {near!r}?" if near else f"; there are {', '.join(papers())}"
        raise SpecError([Problem("paper", f"no paper {key!r} ships{hint}")])
    data = _read(FOLDER / key / PAPER)
    try:
        return PaperFile.model_validate(data | {"key": key})
    except ValidationError as error:
        raise SpecError(problems_of(error, (key,), PaperFile)) from None


@functools.cache
def read_scales() -> Mapping[Scale, ScaleChange]:
    """What a scale changes of every table."""
    data = _read(FOLDER / "scales.yaml")
    return {scale: ScaleChange.model_validate(data[scale]) for scale in get_args(Scale)}


@functools.cache
def _table(table_id: str) -> dict[str, Any]:
    paper = table_id.partition("/")[0]
    return {"id": table_id, "paper": paper, **_read(FOLDER / f"{table_id}.yaml")}


def _read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = read_document(path.read_text(encoding="utf-8"), "yaml")
    return data


def _copied(data: Any) -> Any:
    """Plain data that its reader may change."""
    if isinstance(data, dict):
        return {key: _copied(value) for key, value in data.items()}
    return [_copied(value) for value in data] if isinstance(data, list) else data
