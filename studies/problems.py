"""What is wrong with a spec, told so that its author can mend it: the field, and what would be right there."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

MOST = 100  # problems that are told of one spec
UNKNOWN = "extra_forbidden"  # pydantic's type of an unknown field
WAYS = {"str", "float", "MethodUse", "TableColumn", "PublishedCell"}  # of the schema's unions, as pydantic names them
NAMES = {"rows", "networks", "teachers", "options", "space"}  # fields whose keys are the user's own words
LONGEST_NAME = 128  # no name of the catalogue is longer; looking for the one most like a longer text costs its square


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a spec: the dotted path of the field, and what would be right."""

    field: str
    message: str


class SpecError(ValueError):
    """A spec that is refused. `problems` lists everything that was found; of very many the first, and how many more there are."""

    def __init__(self, problems: list[Problem]) -> None:
        if len(problems) > MOST + 1:
            problems = [*problems[:MOST], Problem("", f"and {len(problems) - MOST} problems more")]
        super().__init__("; ".join(f"{p.field}: {p.message}" if p.field else p.message for p in problems))
        self.problems = problems


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that was probably meant: the same but for case and punctuation, else the most alike one."""
    if len(name) > LONGEST_NAME:
        return None
    plain = {_plain(each): each for each in allowed}
    near = [_plain(name)] if _plain(name) in plain else get_close_matches(_plain(name), plain, n=1)
    return plain[near[0]] if near else None


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def problems_of(error: ValidationError, where: tuple[int | str, ...], model: type[BaseModel]) -> list[Problem]:
    """Pydantic's errors as problems; an unknown field's message lists the fields there are."""
    problems = []
    errors = _without_other_ways(error.errors(include_url=False, include_context=False, include_input=False))
    for e in errors[:MOST]:
        loc, message = _place(e), e["msg"]
        if e["type"] == UNKNOWN:
            allowed = _fields_at(model, loc[:-1])
            near = nearest(str(loc[-1]), allowed)
            message = (
                "unknown field" + (f"; allowed: {', '.join(allowed)}" if allowed else "") + (f"; did you mean {near!r}?" if near else "")
            )
        problems.append(Problem(".".join(str(part)[:80] for part in (*where, *loc)), message))
    if len(errors) > MOST:
        problems.append(Problem("", f"and {len(errors) - MOST} problems more"))
    return problems


def _without_other_ways(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without those that tell only that a value is not of another of its types, where one tells what is wrong with it as it is."""
    telling = {place[:end] for e in errors if not _of_another_type(e) for place in [_place(e)] for end in range(len(place) + 1)}
    return [e for e in errors if not (_of_another_type(e) and _place(e) in telling)]


def _of_another_type(error: ErrorDetails) -> bool:
    return error["type"].endswith("_type") and _place(error) != error["loc"]


def _place(error: ErrorDetails) -> tuple[int | str, ...]:
    """The path of the field, without pydantic's names of the ways of a union; the user's own words stay."""
    loc = error["loc"]
    return tuple(
        part
        for before, part in zip((None, *loc), loc, strict=False)
        if before in NAMES
        or not (isinstance(part, str) and ("[" in part or part in WAYS))
        or (error["type"] == UNKNOWN and part is loc[-1])
    )


def _fields_at(model: type[BaseModel], loc: Iterable[int | str]) -> list[str]:
    """Names of the fields of the model that `loc` leads to (empty where it is no model)."""
    current: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int) or current is None:
            continue
        field = current.model_fields.get(part)
        current = _model_in(field.annotation) if field else None
    return sorted(current.model_fields) if current else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model class inside an annotation such as `list[Arm]` or `Teacher | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in getattr(annotation, "__args__", ()) if (m := _model_in(a))), None)
