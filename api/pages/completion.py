"""What may stand at a place of a study that is being written: the fields of the spec there, or the catalogue's names.

The text is broken while somebody types, so it is not parsed: the place is told by indentation, and by the open brackets of its line.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from studies.catalog import BACKBONES, FORMS, METRICS, Scale, detectors
from studies.datasets import datasets
from studies.measures import KINDS
from studies.methods import methods
from studies.recipes import RECIPES
from studies.spec import StudySpec
from studies.tables.compile import HOW
from studies.tables.document import TableFile
from studies.tables.shipped import papers, table_ids

Schema = dict[str, Any]
_WORD = re.compile(r"[\w./+-]*$")
_LINE = re.compile(r"(?P<indent>\s*(?:-\s+)*)(?P<key>[\w.+-]+)\s*:(?P<rest>.*)$")
_TOKEN = re.compile(r"(?P<key>[\w.+-]+)\s*:(?=\s|$)|(?P<sign>[{}\[\],])")
_TABLE = re.compile(r"^(columns|rows|groups)\s*:", re.MULTILINE)
_SHIPPED = re.compile(r"^table\s*:", re.MULTILINE)
_DISTILLER = re.compile(r"\b(?:distiller|id)\s*:\s*([\w.-]+)")
# Names that a field takes, by the field.
VALUES: dict[str, Callable[[], Sequence[str]]] = {
    "detector": lambda: list(detectors()),
    "backbone": lambda: list(BACKBONES),
    "form": lambda: list(FORMS),
    "recipe": lambda: list(RECIPES),
    "dataset": lambda: list(datasets()),
    "distiller": lambda: list(methods()),
    "metrics": lambda: list(METRICS),
    "metric": lambda: list(METRICS),
    "columns": lambda: list(METRICS),
    "kind": lambda: list(KINDS),
    "scale": lambda: list(get_args(Scale)),
    "paper": papers,
    "table": table_ids,
}


@dataclass(frozen=True)
class Option:
    """Something that may be typed. kind: field or name. about: what it is, in a few words."""

    text: str
    kind: str
    about: str


@dataclass(frozen=True)
class Place:
    """Where the cursor is. path: the fields around it. field: the one whose value is typed, None where a field's name is. start: column
    at which the typed word begins."""

    path: tuple[str, ...]
    field: str | None
    start: int


def complete(text: str, line: int, column: int) -> tuple[int, list[Option]]:
    """What fits at a place (both from 0), and the column from which it stands in the place of what is typed."""
    lines = text.split("\n")
    if not 0 <= line < len(lines):
        return column, []
    place = place_of(lines, line, column)
    typed = lines[line][place.start : column].lower()
    options = _names(text, lines, line, place) if place.field else _fields(text, lines, line, place)
    return place.start, [option for option in options if typed in option.text.lower()]


def place_of(lines: Sequence[str], line: int, column: int) -> Place:
    """Where a cursor is."""
    before = lines[line][:column]
    typed = _WORD.search(before)
    start = typed.start() if typed else column
    head = before[:start]
    marker = re.match(r"\s*(?:-\s+)*", head)
    indent = marker.end() if marker else 0
    inner: list[str | None] = []
    kinds: list[str] = []
    pending: str | None = None
    for token in _TOKEN.finditer(head, indent):
        sign = token["sign"]
        if token["key"]:
            pending = token["key"]
        elif sign in "{[":
            inner.append(pending)
            kinds.append(sign)
            pending = None
        elif sign == "," or not inner:
            pending = None
        else:
            inner.pop()
            kinds.pop()
            pending = None
    around = [*_parents(lines, line, indent), *(key for key in inner if key)]
    if pending is None and kinds and kinds[-1] == "[":
        return Place(tuple(around[:-1]), around[-1] if around else None, start)
    if pending is None and not kinds and "-" in head and _item_of_names(lines, line, indent):
        return Place(tuple(around[:-1]), around[-1] if around else None, start)
    return Place(tuple(around), pending, start)


def _parents(lines: Sequence[str], line: int, indent: int) -> list[str]:
    """Fields that a line is inside of, by indentation."""
    found: list[str] = []
    for above in reversed(lines[:line]):
        match = _LINE.match(above)
        if match and len(match["indent"]) < indent:
            found.insert(0, match["key"])
            indent = len(match["indent"])
    return found


def _item_of_names(lines: Sequence[str], line: int, indent: int) -> bool:
    """Whether the list that a line is an item of is one of plain names, such as `metrics`."""
    around = _parents(lines, line, indent)
    return bool(around) and around[-1] in ("metrics", "columns", "distiller")


def _fields(text: str, lines: Sequence[str], line: int, place: Place) -> list[Option]:
    if place.path and place.path[-1] == "options":
        return _options_of(_method_near(lines, line))
    return [
        Option(name, "field", str(schema.get("description") or _type_of(schema)))
        for way in _ways(text, place.path)
        for name, schema in way.get("properties", {}).items()
    ]


def _names(text: str, lines: Sequence[str], line: int, place: Place) -> list[Option]:
    assert place.field
    if place.field in VALUES and place.path[-1:] != ("options",):
        return [Option(name, "name", _title(place.field, name)) for name in VALUES[place.field]()]
    if place.path[-1:] == ("options",):
        known = methods().get(_method_near(lines, line))
        root = known.options.model_json_schema() if known else {}
        found = root.get("properties", {}).get(place.field)
        return [Option(value, "name", "") for value in _values(found, root)] if found else []
    for way in _ways(text, place.path):
        if found := way.get("properties", {}).get(place.field):
            return [Option(value, "name", "") for value in _values(found, _root(text))]
    return []


def _title(field: str, name: str) -> str:
    known: dict[str, dict[str, Any]] = {"detector": dict(detectors()), "backbone": dict(BACKBONES), "distiller": dict(methods())}
    return str(getattr(known.get(field, {}).get(name), "title", ""))


def _options_of(method: str) -> list[Option]:
    known = methods().get(method)
    fields = known.options.model_json_schema().get("properties", {}) if known else {}
    return [
        Option(name, "field", str(schema.get("description", "")) + f" [{schema['default']}]" * ("default" in schema))
        for name, schema in fields.items()
    ]


def _method_near(lines: Sequence[str], line: int) -> str:
    """The distiller whose options stand on a line: named on it, or above it in the same item."""
    for number in range(line, max(-1, line - 12), -1):
        if found := [name for name in _DISTILLER.findall(lines[number]) if name in methods()]:
            return str(found[-1])
        if number < line and lines[number].lstrip().startswith("- "):
            break
    return ""


def _root(text: str) -> Schema:
    """The schema of what the text is going to be."""
    if _SHIPPED.search(text):
        whole = _schema(TableFile)
        return {**whole, "properties": {"table": {}, **{name: whole["properties"][name] for name in sorted(HOW - {"id"})}}}
    if _TABLE.search(text):
        return _schema(TableFile)
    whole = _schema(StudySpec)
    return {**whole, "properties": {**whole["properties"], "table": {"description": "a table that ships, instead of arms"}}}


@cache
def _schema(model: type[StudySpec] | type[TableFile]) -> Schema:
    return model.model_json_schema()


def _ways(text: str, path: Sequence[str]) -> list[Schema]:
    """The objects that may stand at a path."""
    root = _root(text)
    ways = [root]
    for name in path:
        ways = [way for each in ways if (inside := _inside(each, name)) for way in _objects(inside, root)]
    return ways


def _inside(schema: Schema, name: str) -> Schema | None:
    if name in schema.get("properties", {}):
        found: Schema = schema["properties"][name]
        return found
    others = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
    return next((each for each in others if isinstance(each, dict)), None)


def _objects(schema: Schema, root: Schema) -> Iterator[Schema]:
    """A schema's ways to be an object, lists by their items."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    for way in schema.get("anyOf", ()):
        yield from _objects(way, root)
    if schema.get("type") == "array":
        yield from _objects(schema.get("items", {}), root)
    elif schema.get("type") == "object" or "properties" in schema:
        yield schema


def _values(schema: Schema, root: Schema) -> Iterator[str]:
    """The values that a schema lists."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    for way in schema.get("anyOf", ()):
        yield from _values(way, root)
    yield from map(str, schema.get("enum", ()))
    if "const" in schema:
        yield str(schema["const"])
    if schema.get("type") == "boolean":
        yield from ("true", "false")


def _type_of(schema: Schema) -> str:
    ways = [way.get("type", "") for way in schema.get("anyOf", ())] or [schema.get("type", "")]
    return " or ".join(dict.fromkeys(way for way in ways if way and way != "null"))
