"""The presentation of a study that states none: its teachers, then its arms as they stand in the spec, and what must be told of them.

`studies.tables.compile` makes that of a table with the same parts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from studies.catalog import COUNTED, DECIMALS, LOWER_IS_BETTER, wants_less
from studies.expand import Expansion, PlannedRow, batch_warning, searched
from studies.methods import methods
from studies.presentation import Column, Goal, Presentation, Row, Searched
from studies.space import fresh_seeds, planned
from studies.spec import PRECISIONS, Schedule, StudySpec

NONE: Mapping[str, None] = MappingProxyType({})


def present(study: StudySpec, expansion: Expansion) -> Presentation:
    """Teachers and arms in the order of the spec; gains are told against the same student without distiller."""
    return Presentation(
        title=study.name,
        columns=tuple(column_of(metric) for metric in study.metrics),
        rows=tuple(row_of(row, expansion.measured_by(row), baseline_of(row, expansion.rows)) for row in expansion.rows),
        searches=tuple(searches_of(study)),
        variants=variants_of(expansion.rows),
        warnings=warnings_of(study, expansion.rows),
    )


def column_of(metric: str, title: str | None = None) -> Column:
    """The column of a metric."""
    better = None if metric in COUNTED else "lower" if metric.startswith(LOWER_IS_BETTER) else "higher"
    return Column(metric=metric, title=title or metric, decimals=DECIMALS.get(metric, 1), better=better)


def searches_of(study: StudySpec) -> Iterator[Searched]:
    """The arms whose values are drawn while the study runs."""
    search = study.search
    if search is None or search.algorithm is None:
        return
    for arm in study.arms:
        if searched(search, arm):
            yield Searched(
                arm=arm.id,
                title=arm.title or arm.id,
                algorithm=search.algorithm,
                scheduler=search.scheduler,
                seed=search.seed,
                goals=tuple(Goal(metric=each.metric, over=each.over, less=wants_less(each.metric)) for each in search.objective),
                planned=planned(search),
                seeds=tuple(study.seeds),
                confirm=tuple(fresh_seeds(study)),
                default=arm.id,
            )


def row_of(planned: PlannedRow, measurements: tuple[str, ...], baseline: str | None = None) -> Row:
    """The printed row of a planned one, under its own id and title. measurements: ids of those that complete its metrics."""
    return Row(
        id=planned.id,
        title=planned.title,
        role=planned.role,
        trials=planned.trials,
        measurements=measurements,
        baseline=baseline,
        values=dict(planned.values),
    )


def baseline_of(row: PlannedRow, rows: Sequence[PlannedRow]) -> str | None:
    """The row that a distilled one gains over: the same student without distiller, with the same schedule where there is a choice."""
    if row.role != "distilled":
        return None
    same = [other for other in rows if other.role == "baseline" and other.network == row.network]
    return next((other.id for other in same if other.schedule == row.schedule), same[0].id if same else None)


def variants_of(rows: Iterable[PlannedRow]) -> tuple[str, ...]:
    """Forms in use of methods whose paper and released code disagree: "LD (code)"."""
    uses = [use for row in rows for use in row.distillers if "variant" in use.options]
    return tuple(sorted({f"{methods()[use.id].title} ({use.options['variant']})" for use in uses}))


def warnings_of(study: StudySpec, rows: Sequence[PlannedRow], trained: Mapping[str, int | None] = NONE) -> tuple[str, ...]:
    """What a person should know of a study that is valid all the same, a sentence each.

    trained: images that a device had in the published training of an arm, by its id, where that was not the distiller's usual number.
    """
    processes = study.resources.processes
    told = dict.fromkeys(
        sentence
        for row in rows
        for use in row.distillers
        if (sentence := batch_warning(row.title, use, row.schedule, processes, trained.get(row.id.partition("~")[0])))
    )
    told |= dict.fromkeys(_own_schedules(study, rows))
    first: dict[tuple[str, ...], PlannedRow] = {}
    for row in rows:
        other = first.setdefault(row.trials, row)
        if other is not row and row.role != "teacher":
            told[f"{other.title} and {row.title} are the same training, which runs once"] = None
    if study.precision != "fp32":
        told[f"trained in {study.precision}: {PRECISIONS[study.precision]}; evaluated in 32 bits"] = None
    return tuple(told)


# What a schedule, or a method, may say instead of the recipe, as a reader calls it.
CHANGES = {
    "clip": "clip",
    "weight_decay": "weight decay",
    "warm_up": "warm-up steps",
    "accumulate": "parts of a step",
    "average": "moving average of the weights",
    "frozen_stages": "frozen stages",
    "val_interval": "epochs between evaluations",
}


def _own_schedules(study: StudySpec, rows: Sequence[PlannedRow]) -> Iterator[str]:
    """A sentence for the rows that train with a value of CHANGES that is not their recipe's, equal ones together."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.weights:
            continue
        recipe = row.schedule.recipe
        usual = Schedule(recipe=recipe).resolved(study.scale, row.network, study.dataset)
        changes = {name: (getattr(row.schedule, name), getattr(usual, name)) for name in CHANGES}
        told = [
            f"{CHANGES[name]} {ours:g} ({'the network' if theirs is None else f'recipe {recipe}'} has {_or_own(theirs)})"
            for name, (ours, theirs) in changes.items()
            if ours != theirs
        ]
        if told:
            found.setdefault(", ".join(told), []).append(row.title)
    for told_of, titles in found.items():
        yield f"{', '.join(dict.fromkeys(titles))}: trained with {told_of}"


def _or_own(value: float | None) -> str:
    return "its own" if value is None else f"{value:g}"
