"""What is wrong with a spec, told so that its author can mend it: the field, and what would be right there."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

MOST = 100  # problems that are told of one spec
LONGEST_NAME = 128  # no name of the catalogue is longer; looking for the one most like a longer text costs its square


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a spec: the dotted path of the field, and what would be right."""

    field: str
    message: str


class SpecError(ValueError):
    """A spec that is refused. `problems` lists everything that was found."""

    def __init__(self, problems: list[Problem]) -> None:
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
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    for e in errors[:MOST]:
        unknown = e["type"] == "extra_forbidden"  # then the last part is the user's own word, not pydantic's name of a union's way
        parts, own = (e["loc"][:-1], e["loc"][-1:]) if unknown else (e["loc"], ())
        loc = [*(part for part in parts if not (isinstance(part, str) and ("[" in part or part in {"str", "MethodUse"}))), *own]
        message = e["msg"]
        if unknown:
            allowed = _fields_at(model, loc[:-1])
            near = nearest(str(loc[-1]), allowed)
            message = (
                "unknown field" + (f"; allowed: {', '.join(allowed)}" if allowed else "") + (f"; did you mean {near!r}?" if near else "")
            )
        problems.append(Problem(".".join(str(part)[:80] for part in (*where, *loc)), message))
    if len(errors) > MOST:
        problems.append(Problem("", f"and {len(errors) - MOST} problems more"))
    return problems


def _fields_at(model: type[BaseModel], loc: list[int | str]) -> list[str]:
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
