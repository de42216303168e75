"""A study as it is named on the command line (a YAML file, a catalogue id, - for standard input), `--scale` and `--set` on top."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studies.documents import read_document
from studies.problems import Problem, SpecError, nearest
from studies.shipped import read_study_file, shipped_ids, shipped_study
from studies.submission import is_table, of_scale


def study_data(study: str, scale: str | None = None, settings: Sequence[str] = ()) -> Any:
    """The plain data of a study, not validated yet. Raises SpecError."""
    data = _document(study)
    changes = [*settings, *([f"scale={scale}"] if scale else [])]
    if changes and not isinstance(data, dict):
        raise SpecError([Problem("", f"{study} is no mapping, so nothing can be set in it")])
    for change in sorted(changes, key=lambda each: not each.startswith("scale=")):
        path, equals, text = change.partition("=")
        if not equals or not path:
            raise SpecError([Problem("--set", f"{change!r} is not of the form path=value, such as schedule.epochs=2")])
        key, *rest = path.split(".")
        place = of_scale(key, data) if is_table(data) else [key]
        _put(data, [*place, *rest], read_document(text, "yaml"), path)
    return data


def _document(study: str) -> Any:
    if study == "-":
        return read_document(sys.stdin.read(), "yaml")  # which JSON is, too
    path = Path(study)
    if path.is_file():
        return read_study_file(path)
    shipped = shipped_study(study)
    if shipped:
        return shipped.data
    near = nearest(study, shipped_ids())
    hint = f"; did you mean {near!r}?" if near else "; those that ship: retort catalog studies"
    raise SpecError([Problem("", f"{study!r} is neither a file nor a shipped study{hint}")])


def _put(target: Any, path: list[str], value: Any, told: str) -> None:
    """Set one value; a list is entered by index or by the `id` of an entry (`arms.ld.options.temperature`)."""
    name, *rest = path
    if isinstance(target, list):
        place = _place(target, name)
        if place is None:
            raise SpecError([Problem(told, f"no entry {name!r}; there are {_entries(target)}")])
        if rest:
            _put(target[place], rest, value, told)
        else:
            target[place] = value
    elif isinstance(target, dict):
        if rest:
            _put(target.setdefault(name, {}), rest, value, told)
        else:
            target[name] = value
    else:
        raise SpecError([Problem(told, f"there is no {name!r} inside {target!r}")])


def _place(entries: list[Any], name: str) -> int | None:
    for index, entry in enumerate(entries):
        if isinstance(entry, dict) and entry.get("id") == name:
            return index
    return int(name) if name.isdecimal() and int(name) < len(entries) else None


def _entries(entries: list[Any]) -> str:
    named = [str(entry.get("id", index)) if isinstance(entry, dict) else str(index) for index, entry in enumerate(entries)]
    return ", ".join(named) or "none"
