"""A study as text: YAML or JSON read into plain data (mappings, lists, strings, numbers, booleans, null) and nothing else.

What no database, hash or JSON answer could carry later (NaN, 70-digit integers, NUL bytes, ten thousand levels) is refused here,
with the place. Aliases, tags and dates of YAML are refused too: a study needs none, and aliases can blow up a small file.
"""

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import yaml

from studies.problems import MOST, Problem, SpecError

MAX_DEPTH = 20
MAX_NODES = 50_000
_MOST_DIGITS = 100  # of a number
_LARGEST = 2**63 - 1  # what a database integer holds


class _Refused(yaml.MarkedYAMLError):
    """Legal YAML that no study needs, with its place."""

    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(problem=problem, problem_mark=mark)


# In C where PyYAML was built with libyaml, as its wheels are: a megabyte takes a tenth of the time.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _PlainLoader(_Loader):  # type: ignore[misc]
    """YAML of plain values: no dates, no repeated keys, no keys but texts, no numbers longer than one can mean."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _Refused("a key that is not text; quote it", key.start_mark)
            if key.value in seen:
                raise _Refused(f"the key {key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_number(self, node: Any) -> int | float:
        if len(node.value) > _MOST_DIGITS:  # such as 1:59:59:..., which takes minutes to add up
            raise _Refused("a number that cannot be read, or has too many digits", node.start_mark)
        whole = node.tag.endswith(":int")
        number: int | float = self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
        return number


def _check_yaml(text: str) -> None:
    """What no study needs or what is too much, told by the text's events before anything is made of them. Raises YAMLError."""
    nodes = depth = 0
    for event in yaml.parse(text, _PlainLoader):
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if not isinstance(event, yaml.NodeEvent):
            continue
        node: Any = event  # the stubs know no tag of a node
        nodes += 1
        if isinstance(event, yaml.AliasEvent) or node.anchor:
            raise _Refused("anchors and aliases (& and *) are not read; write the value out", node.start_mark)
        if node.tag:
            raise _Refused(f"the tag {node.tag!r} is not read; write plain values", node.start_mark)
        if nodes > MAX_NODES:
            raise _Refused(f"more than {MAX_NODES} values", node.start_mark)
        if depth >= MAX_DEPTH:
            raise _Refused(f"nested more than {MAX_DEPTH} levels deep", node.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1


for _kind in ("int", "float"):
    _PlainLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _PlainLoader.construct_number)
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map")}
# A bare 2026-11-21 stays the text it looks like.
_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _PLAIN_TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_document(text: str, form: Literal["json", "yaml"]) -> Any:
    """The plain data that `text` holds. Raises SpecError, with line and column where the text itself is broken."""
    try:
        data = _read_json(text) if form == "json" else _read_yaml(text)
    except json.JSONDecodeError as error:
        raise SpecError([Problem("", f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SpecError([Problem("", f"not readable YAML: {error.problem or error.context}{where}")]) from None
    except yaml.YAMLError as error:
        raise SpecError([Problem("", f"not readable YAML: {' '.join(str(error).split())}")]) from None
    except SpecError:
        raise
    except RecursionError:
        raise SpecError([Problem("", f"nested more than {MAX_DEPTH} levels deep")]) from None
    except ValueError:  # such as an integer of more digits than Python converts
        raise SpecError([Problem("", "a number that cannot be read, or has too many digits")]) from None
    problems = list(itertools.islice(_unstorable(data, (), 1, itertools.count()), MOST))
    if problems:
        raise SpecError(problems)
    return data


def _read_yaml(text: str) -> Any:
    _check_yaml(text)
    return yaml.load(text, _PlainLoader)


def _read_json(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data = dict(pairs)
        if len(data) < len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise SpecError([Problem(_shown(twice), "the same key twice in one mapping")])
        return data

    return json.loads(text, object_pairs_hook=once)


def _unstorable(value: Any, path: tuple[str, ...], depth: int, seen: Iterator[int]) -> Iterator[Problem]:
    """Values that are legal in the text but could not be stored, hashed or answered."""
    field = ".".join(path)
    if next(seen) == MAX_NODES:
        raise SpecError([Problem("", f"more than {MAX_NODES} values")])
    if depth > MAX_DEPTH:
        yield Problem(field, f"nested more than {MAX_DEPTH} levels deep")
    elif isinstance(value, dict):
        for key, item in value.items():
            if reason := _unprintable(key):
                yield Problem(".".join((*path, _shown(key))), f"a key with {reason}")
            yield from _unstorable(item, (*path, _shown(key)), depth + 1, seen)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unstorable(item, (*path, str(index)), depth + 1, seen)
    elif isinstance(value, str) and (reason := _unprintable(value)):
        yield Problem(field, f"text with {reason}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(field, "a finite number; not NaN or infinity")
    elif isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
        yield Problem(field, "an integer of at most 64 bits")


def _unprintable(text: str) -> str | None:
    if "\0" in text:
        return "a NUL byte"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "half a surrogate pair (not valid Unicode)"
    return None


def _shown(key: str) -> str:
    """A key as it may be printed and sent: short, valid Unicode, no control characters."""
    return "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "?" for c in key[:80])
