"""What is wrong with a search, told so that its author can mend it: ways, conditions, sizes, and combinations that no arm can have."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from studies.catalog import COSTS
from studies.expand import combinations, searched
from studies.methods import methods
from studies.problems import Problem, problems_of
from studies.space import LISTED, PLACES, RANGES, WHOLE, Factor, arm_with, combinations_of, factors_of, label, place_of
from studies.spec import Arm, Search, StudySpec

MAX_TRIALS = 10_000  # of one study
MOST_COMBINATIONS = 1000  # that are rows from the beginning, or that a grid tries
MOST_CHECKED = 1000  # combinations of a space that are tried on the arms before anything runs
OF_ALGORITHMS = ("scheduler", "objective", "first", "confirm", "parallel", "grace", "reduction")
Misfits = Callable[[Arm], list[Problem]]  # what is wrong with an arm, its fields under search.space


def search_misfits(spec: StudySpec, search: Search, misfits: Misfits) -> Iterator[Problem]:
    """Everything that is wrong with a study's search, or the first thing where the rest cannot be told without it."""
    ids = [arm.id for arm in spec.arms]
    for position, arm_id in enumerate(search.arms or []):
        if arm_id not in ids:
            yield Problem(f"search.arms.{position}", f"no arm {arm_id!r}; arms: {', '.join(ids)}")
    ill_formed = list(_ways(search)) or list(_conditions(search))
    if ill_formed:
        yield ill_formed[0]
        return
    of_kind = list(_of_rows(spec, search) if search.algorithm is None else _of_algorithm(spec, search))
    yield from of_kind
    if not of_kind:
        yield from _combinations(spec, search, misfits)


def _ways(search: Search) -> Iterator[Problem]:
    for name, ways in search.space.items():
        where = f"search.space.{name}"
        place = place_of(name)
        if place is None:
            yield Problem(where, PLACES)
            continue
        if place[0] is not None and place[0] not in methods():
            yield Problem(where, f"no distiller {place[0]!r}; a path begins with a distiller's name or none")
        named = [way for way in ways if way != "when"]
        if len(named) != 1:
            yield Problem(where, f"exactly one of {', '.join((*LISTED, *RANGES))}")
            continue
        values = ways[named[0]]
        if not isinstance(values, list):
            yield Problem(where, f"{named[0]}: a list of {'values' if named[0] in LISTED else 'the lowest and the highest value'}")
        elif named[0] in LISTED:
            yield from _list(where, values)
        else:
            yield from _range(where, named[0], values)


def _list(where: str, values: list[Any]) -> Iterator[Problem]:
    if not 1 <= len(values) <= 100:
        yield Problem(where, f"1 to 100 values, not {len(values)}")
        return
    twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
    if twice is not None or values.count(None) > 1:
        yield Problem(where, f"the value {twice!r} is there twice")


def _range(where: str, way: str, values: list[Any]) -> Iterator[Problem]:
    kinds = (int,) if way in WHOLE else (int, float)
    if len(values) != 2 or any(isinstance(value, bool) or not isinstance(value, kinds) for value in values):
        yield Problem(where, f"{way}: [LOWEST, HIGHEST], two {'whole ' if way in WHOLE else ''}numbers")
    elif not all(map(math.isfinite, values)) or values[0] >= values[1]:
        yield Problem(where, f"{way}: the lowest value before a higher one, not {values}")
    elif way.startswith("log") and values[0] <= 0:
        yield Problem(where, f"{way}: on a logarithmic scale values are greater than 0, not {values[0]}")


def _conditions(search: Search) -> Iterator[Problem]:
    known = {name: next((ways[way] for way in LISTED if way in ways), None) for name, ways in search.space.items()}
    for name, ways in search.space.items():
        where, when = f"search.space.{name}", ways.get("when", {})
        if not isinstance(when, Mapping):
            yield Problem(where, "when: {PATH: VALUE}, another path of the space and the value (or values) with which this one counts")
            return
        distiller = (place_of(name) or (None,))[0]
        wanted = {**when, **({"distiller": distiller} if distiller else {})}
        for other, value in wanted.items():
            listed = known.get(other)
            if listed is None:
                yield Problem(where, f"counts with a value of {other!r}, which this space does not list: {other}: {{choice: [...]}}")
                return
            lacking = [each for each in (value if isinstance(value, list) else [value]) if each not in listed]
            if lacking:
                yield Problem(where, f"counts with {other} {lacking[0]!r}, which is none of its values: {', '.join(map(str, listed))}")
                return
    try:
        factors_of(search)
    except ValueError as error:
        yield Problem("search.space", f"{error}, by the conditions of others")


def _of_rows(spec: StudySpec, search: Search) -> Iterator[Problem]:
    """A search whose combinations are all rows."""
    named = [name for name in OF_ALGORITHMS if name in search.model_fields_set and getattr(search, name) != _default(name)]
    if named:
        yield Problem(f"search.{named[0]}", "only with `algorithm`: without one every combination is a row of its own")
        return
    ways = {name: next(way for way in ways if way != "when") for name, ways in search.space.items()}
    drawn = next((name for name, way in ways.items() if way in RANGES or "when" in search.space[name]), None)
    if drawn is not None:
        yield Problem(f"search.space.{drawn}", "ranges and conditions need an `algorithm` that draws from them, such as tpe or random")
        return
    kinds = set(ways.values())
    if "sweep" in kinds and len(kinds) > 1:
        yield Problem(
            "search.space", "a sweep changes one factor at a time: all factors of the search must be swept, none by grid or choice"
        )
        return
    if search.trials is None and "choice" in kinds:
        yield Problem("search.trials", "choice spaces need `trials`: how many combinations to draw")
        return
    sizes = {name: len(search.space[name][way]) for name, way in ways.items()}
    if "sweep" in kinds:
        count = 1 + sum(sizes.values())
    else:
        gridded = math.prod(size for name, size in sizes.items() if ways[name] == "grid")
        count = gridded * ((search.trials or 1) if "choice" in kinds else 1)
    if count > MOST_COMBINATIONS:
        yield Problem("search.space", f"{count} combinations; at most {MOST_COMBINATIONS}")
        return
    chosen = [arm for arm in spec.arms if searched(search, arm)]
    yield from _size("search.space", (len(spec.arms) + len(chosen) * (count - 1)) * len(spec.seeds))


def _of_algorithm(spec: StudySpec, search: Search) -> Iterator[Problem]:
    """A search whose combinations are drawn while it runs."""
    factors = factors_of(search)
    if not any(searched(search, arm) for arm in spec.arms):
        yield Problem("search.arms", "no arm is searched: name one, or give an arm a distiller")
    swept = next((factor.name for factor in factors if factor.way == "sweep"), None)
    if swept:
        yield Problem(f"search.space.{swept}", "a sweep draws nothing; with an `algorithm` list the values by choice")
    yield from _trials(spec, search, factors)
    if search.algorithm == "cmaes" and all(factor.listed for factor in factors):
        yield Problem("search.algorithm", "cmaes draws numbers from ranges, and this space has lists alone; tpe takes both")
    several = len(search.objective) > 1
    if several and search.algorithm == "cmaes":
        yield Problem("search.algorithm", "cmaes has one objective; nsga2, tpe and random take several")
    if several and search.scheduler != "none":
        yield Problem("search.scheduler", "a scheduler stops by one metric, and this search has several objectives; leave it out")
    yield from _objectives(spec, search)
    if search.first and search.algorithm == "grid":
        yield Problem("search.first", "a grid tries every combination, in the order of the space; leave this out")
    for index, point in enumerate(search.first):
        yield from _point(f"search.first.{index}", point, factors)


def _trials(spec: StudySpec, search: Search, factors: list[Factor]) -> Iterator[Problem]:
    chosen = sum(searched(search, arm) for arm in spec.arms)
    if search.algorithm == "grid":
        ranged = next((factor.name for factor in factors if not factor.listed), None)
        if ranged:
            yield Problem(f"search.space.{ranged}", "a grid tries listed values: grid: [...]; ranges are for the other algorithms")
            return
        most = search.trials or MOST_COMBINATIONS
        if search.trials is None and len(list(itertools.islice(combinations_of(factors), most + 1))) > most:
            yield Problem("search.space", f"more than {most} combinations; say by `trials` how many of them, or take another algorithm")
    elif search.trials is None:
        yield Problem("search.trials", f"{search.algorithm} needs `trials`: how many combinations to draw")
    yield from _size("search.trials", (search.trials or 0) * chosen * len(spec.seeds))


def _objectives(spec: StudySpec, search: Search) -> Iterator[Problem]:
    names = [objective.metric for objective in search.objective]
    for index, objective in enumerate(search.objective):
        where = f"search.objective.{index}"
        if names.count(objective.metric) > 1:
            yield Problem(where, f"the metric {objective.metric} twice")
        elif objective.metric not in spec.metrics:
            yield Problem(where, f"the table does not show {objective.metric}; add it to `metrics`")
        elif objective.metric == "D_pred":
            yield Problem(where, "D_pred is measured of finished trainings by jobs of their own, too late for a search")
        elif search.scheduler != "none" and (objective.metric in COSTS or objective.metric.startswith("err_")):
            yield Problem(where, f"{objective.metric} is not measured at epochs, so that no scheduler can stop by it")
        if objective.over == "lower" and len(spec.seeds) < 2:
            yield Problem(where, "the interval over the seeds needs two of them at least: seeds: [0, 1, 2]")


def _point(where: str, point: Mapping[str, Any], factors: list[Factor]) -> Iterator[Problem]:
    """A combination to try first: known names, values of theirs."""
    known = {factor.name: factor for factor in factors}
    for name, value in point.items():
        factor = known.get(name)
        if factor is None:
            yield Problem(f"{where}.{name}", f"not in the space; its paths: {', '.join(known)}")
        elif factor.listed and value not in factor.values:
            yield Problem(f"{where}.{name}", f"{value!r} is none of its values: {', '.join(str(label(each)) for each in factor.values)}")
        elif not factor.listed:
            kinds = (int,) if factor.way in WHOLE else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not factor.values[0] <= value <= factor.values[1]:
                yield Problem(f"{where}.{name}", f"from {factor.values[0]} to {factor.values[1]}, not {value!r}")


def _size(where: str, trials: int) -> Iterator[Problem]:
    if trials > MAX_TRIALS:
        yield Problem(where, f"{trials} trials; at most {MAX_TRIALS}")


def _combinations(spec: StudySpec, search: Search, misfits: Misfits) -> Iterator[Problem]:
    """The first combination that an arm cannot have. Of a space with ranges those at their ends; of a large one its first part."""
    chosen = [arm for arm in spec.arms if searched(search, arm)]
    drawn = combinations(search) if search.algorithm is None else combinations_of(factors_of(search), ranges=True)
    most = None if search.algorithm is None else MOST_CHECKED
    for values in itertools.islice(drawn, most):
        for arm in chosen:
            try:
                sampled = arm_with(spec, arm, values)
            except ValidationError as error:
                yield from problems_of(error, ("search", "space"), Arm)
                return
            found = [Problem(p.field, f"with {values}: {p.message}") for p in misfits(sampled)]
            if found:
                yield from found
                return


def _default(name: str) -> Any:
    return Search.model_fields[name].get_default()
