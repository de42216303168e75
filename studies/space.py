"""The space of a search: its factors, when each counts, and what a combination of their values makes of an arm. Pure: it draws nothing."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studies.spec import Arm, Network, Search, StudySpec

LISTED = ("grid", "choice", "sweep")  # ways that list their values
RANGES = ("int", "logint", "uniform", "loguniform")  # ways from a lowest to a highest value, both included
WHOLE = ("int", "logint")

OF_METHOD = r"options\.[a-z][a-z0-9_]*|weight|per_device_images"
OF_ARM = (
    r"schedule\.(recipe|epochs|batch_size|lr|clip|weight_decay|warm_up)|distiller"
    r"|(teacher|student)(\.(detector|backbone|width|form))?|teacher\.seed"
)
_NAME = re.compile(rf"(?:(?P<distiller>[a-z][a-z0-9_]*)\.)?(?P<own>{OF_METHOD})|(?P<other>{OF_ARM})")
PLACES = (
    "a path inside an arm: options.NAME, weight, per_device_images (with a distiller's name before them where distillers are searched: "
    "ld.options.temperature), schedule.recipe, epochs, batch_size, lr, clip, weight_decay or warm_up, distiller, teacher, student, "
    "or a network's detector, backbone, width or form (student.backbone)"
)


@dataclass(frozen=True)
class Factor:
    """One thing that a search changes.

    name: as the search says it. path: inside an arm. values: those listed, or lowest and highest. when: by the name of another factor, the
    values of it with which this one counts.
    """

    name: str
    path: str
    way: str
    values: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def listed(self) -> bool:
        return self.way in LISTED

    @property
    def labels(self) -> dict[str | int | float | bool | None, Any]:
        """What stands for each listed value where only plain values may."""
        return {label(value): value for value in self.values}

    def counts(self, drawn: Mapping[str, Any]) -> bool:
        """Whether it counts beside the values that were drawn for those before it."""
        return all(name in drawn and drawn[name] in wanted for name, wanted in self.when.items())


def place_of(name: str) -> tuple[str | None, str] | None:
    """The distiller that a factor's name begins with, and its path inside an arm; None where it is no such name."""
    found = _NAME.fullmatch(name)
    return (found["distiller"], found["own"] or found["other"]) if found else None


def factors_of(search: Search) -> list[Factor]:
    """The factors of a search that is well formed, each behind those that it depends on, else in the order of the spec."""
    waiting = [_factor(name, ways) for name, ways in search.space.items()]
    found: list[Factor] = []
    while waiting:
        known = {factor.name for factor in found}
        free = [factor for factor in waiting if factor.when.keys() <= known]
        if not free:
            raise ValueError(f"{waiting[0].name} depends on itself")
        found += free
        waiting = [factor for factor in waiting if factor not in free]
    return found


def _factor(name: str, ways: Mapping[Any, Any]) -> Factor:
    distiller, path = place_of(name) or (None, name)
    conditions = {other: value if isinstance(value, list) else [value] for other, value in ways.get("when", {}).items()}
    if distiller is not None:
        conditions["distiller"] = [distiller]
    way, values = next((way, values) for way, values in ways.items() if way != "when")
    return Factor(name, path, way, tuple(values), {other: tuple(wanted) for other, wanted in conditions.items()})


def combinations_of(factors: Sequence[Factor], ranges: bool = False) -> Iterator[dict[str, Any]]:
    """Every combination of listed values, each once: a factor that does not count is not in it. ranges: those at both of their ends too,
    else they are left out."""
    seen: set[str] = set()
    chosen = [factor for factor in factors if factor.listed or ranges]
    for values in itertools.product(*(factor.values for factor in chosen)):
        point: dict[str, Any] = {}
        for factor, value in zip(chosen, values, strict=True):
            if factor.counts(point):
                point[factor.name] = value
        if (told := repr(point)) not in seen:
            seen.add(told)
            yield point


def planned(search: Search) -> int:
    """How many combinations a search tries of an arm."""
    if search.algorithm != "grid":
        return search.trials or 0
    found = sum(1 for _ in combinations_of(factors_of(search)))
    return min(found, search.trials or found)


def arm_with(study: StudySpec, arm: Arm, values: Mapping[str, Any]) -> Arm:
    """The arm with these values (by the factors' names) in place. Options and weight of a distiller that is not chosen go.

    Raises pydantic's ValidationError where a value does not fit its field.
    """
    data = arm.model_dump(exclude_unset=True)
    if values.get("distiller", arm.distiller) != arm.distiller:
        for of_method in ("options", "weight", "per_device_images"):
            data.pop(of_method, None)
    placed = {(place_of(name) or (None, name))[1]: value for name, value in values.items()}
    networks: dict[str, tuple[Network | None, Network | None]] = {
        "teacher": (arm.teacher, study.teacher),
        "student": (arm.student, study.student),
    }
    for role, (own, of_study) in networks.items():
        if own is None and of_study is not None and any(path.startswith(f"{role}.") for path in placed):
            data[role] = of_study.model_dump(exclude_unset=True)
    for path, value in sorted(placed.items(), key=lambda entry: entry[0].count(".")):
        *folders, leaf = path.split(".")
        target = data
        for folder in folders:
            target = target.setdefault(folder, {})
        target[leaf] = dict(value) if isinstance(value, Mapping) else value
    return Arm.model_validate(data)


def label(value: Any) -> str | int | float | bool | None:
    """A listed value as a plain one: a network as "gfl-resnet18-w12"."""
    if isinstance(value, Mapping):
        width = f"w{value['width']}" if value.get("width") else None
        parts = [*(value.get(part) for part in ("detector", "form", "backbone")), width]
        rest = sorted((key, each) for key, each in value.items() if key not in {"detector", "form", "backbone", "width"})
        return "-".join([*(str(part) for part in parts if part), *(f"{key}={each}" for key, each in rest)])
    if isinstance(value, list | tuple):
        return "+".join(str(label(each)) for each in value)
    return value  # type: ignore[no-any-return]


def told(values: Mapping[str, Any]) -> str:
    """Drawn values in a line: "temperature=7.25, weight=0.5"."""
    names = {name: name.removeprefix("options.").replace(".options.", ".") for name in values}
    return ", ".join(f"{names[name]}={f'{value:.4g}' if isinstance(value, float) else label(value)}" for name, value in values.items())


def fresh_seeds(study: StudySpec) -> list[int]:
    """The seeds that confirm what a search found: the first ones behind those that it was found with."""
    count = study.search.confirm if study.search and study.search.algorithm else 0
    return [max(study.seeds) + 1 + number for number in range(count)]
