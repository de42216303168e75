"""A study as it is being written: what is wrong with the text, and on which line."""

import re
from dataclasses import dataclass

import yaml

from studies.documents import read_document
from studies.problems import Problem, SpecError
from studies.submission import Submission, read_submission

_PLACE = re.compile(r" at line (\d+), column \d+$")


@dataclass(frozen=True)
class PlacedProblem:
    """A problem with the line (from 1) that its field is on; where the text does not have the field, that of the nearest part around it."""

    line: int
    field: str
    message: str


def check(text: str) -> tuple[Submission | None, list[PlacedProblem]]:
    """The study that the text describes, or everything that is wrong with it."""
    if not text.strip():
        return None, []
    try:
        return read_submission(read_document(text, "yaml")), []
    except SpecError as refused:
        return None, placed(text, refused.problems)


def placed(text: str, problems: list[Problem]) -> list[PlacedProblem]:
    """Problems with their lines, in the order of these."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        root = None
    return sorted((_placed(root, each) for each in problems), key=lambda each: each.line)


def _placed(root: yaml.Node | None, problem: Problem) -> PlacedProblem:
    told = _PLACE.search(problem.message)
    line = int(told[1]) if told else line_of(root, problem.field)
    return PlacedProblem(line, problem.field, problem.message)


def line_of(root: yaml.Node | None, field: str) -> int:
    """The line of a dotted path (`arms.1.options.temperature`) in a composed document, from 1."""
    line, node = 1, root
    rest = field.split(".") if field else []
    while rest and node is not None:
        if isinstance(node, yaml.MappingNode):
            # A key may hold dots itself, so the longest one that fits counts.
            fitting = [(key, value) for key, value in node.value if rest[: key.value.count(".") + 1] == key.value.split(".")]
            if not fitting:
                break
            key, node = max(fitting, key=lambda pair: len(pair[0].value))
            line, rest = key.start_mark.line + 1, rest[key.value.count(".") + 1 :]
        elif isinstance(node, yaml.SequenceNode) and rest[0].isdecimal() and int(rest[0]) < len(node.value):
            node, rest = node.value[int(rest[0])], rest[1:]
            line = node.start_mark.line + 1
        else:
            break
    return line
