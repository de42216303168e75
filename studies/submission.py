"""What a person submits, made ready to be stored: a study of arms, a table, or the name of a table that ships.

`read_submission(data)` gives the study, its rows and trials, and the presentation that is frozen with it, or raises SpecError with
every problem.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from studies.expand import Expansion, expand
from studies.parse import parse_study
from studies.presentation import Presentation
from studies.problems import Problem, SpecError, nearest
from studies.spec import StudySpec
from studies.tables.compile import HOW, compile_table
from studies.tables.present import present
from studies.tables.shipped import read_table, table_ids


@dataclass(frozen=True)
class Submission:
    """A valid study with what follows from it."""

    spec: StudySpec
    expansion: Expansion
    presentation: Presentation


def read_submission(data: Any) -> Submission:
    """The study that `data` (parsed JSON or YAML) describes: arms; a table's columns and rows; or `{table: ID}` with what `HOW` allows
    on top. Raises SpecError."""
    data = spelled_out(data)
    if isinstance(data, dict) and is_table(data):
        return Submission(*compile_table(data))
    return as_submission(parse_study(data))


def is_table(data: dict[str, Any]) -> bool:
    """Whether a document is a table's, rather than a study of arms."""
    return "arms" not in data and bool({"columns", "groups", "rows"} & data.keys())


def of_scale(key: str, data: dict[str, Any]) -> list[str]:
    """The path in a table's document of what someone asks for by `key`: its own `resources` are those at paper scale."""
    scale = str(data.get("scale", "nano"))
    return ["scales", scale, key] if key == "resources" and scale != "paper" else [key]


def as_submission(spec: StudySpec) -> Submission:
    """A valid study of arms, ready to be stored."""
    expansion = expand(spec)
    return Submission(spec, expansion, present(spec, expansion))


def spelled_out(data: Any) -> Any:
    """What was submitted, and in the place of a shipped table's name its document, with the scale, seeds and so on that were asked for."""
    if not isinstance(data, dict) or "table" not in data:
        return data
    table_id, allowed = data["table"], sorted(HOW - {"id"})
    found = read_table(table_id) if isinstance(table_id, str) else None
    if found is None:
        near = nearest(str(table_id), table_ids())
        raise SpecError([Problem("table", f"no table {str(table_id)[:80]!r} ships" + (f"; did you mean {near!r}?" if near else ""))])
    strange = [
        Problem(str(key)[:80], f"beside `table` only: {', '.join(allowed)}") for key in data if key != "table" and key not in allowed
    ]
    if strange:
        raise SpecError(strange)
    found |= deepcopy({key: value for key, value in data.items() if key not in {"table", "resources"}})
    if "resources" in data:
        *within, key = of_scale("resources", found)
        place = found
        for name in within:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise SpecError([Problem("scales", "must be a mapping from scales to what each changes, such as {nano: {seeds: [0]}}")])
        place[key] = data["resources"]
    return found
