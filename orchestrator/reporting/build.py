"""From a study's frozen presentation and its trials to its table: pure, and linear in rows and trials.

Nothing of today's catalogue is asked what a stored study was: a row names its trials, a column its metric, whatever became of them since.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from orchestrator.records.schema import Study
from orchestrator.reporting.claims import Gained, claims
from orchestrator.reporting.links import run_page
from orchestrator.reporting.notes import notes
from orchestrator.reporting.provenance import provenance
from orchestrator.reporting.results import Result
from orchestrator.reporting.statistics import difference, estimate
from orchestrator.reporting.table import Cell, Printed, Row, Run, Table
from orchestrator.reporting.verdicts import judge
from studies import presentation as layout
from studies.catalog import COSTS, COUNTED
from studies.inert import one_line
from studies.presentation import Presentation, Source

Values = Mapping[str, Mapping[int, float]]  # metric -> seed -> value
Link = Callable[[str | None], str | None]  # an MLflow run's id -> its page


def build(study: Study, presentation: Presentation, trials: Sequence[Result], mlflow_ui: str | None = None) -> Table:
    """The table of what is there so far. `mlflow_ui`: base URL that runs are linked to."""

    def link(run: str | None) -> str | None:
        return run_page(mlflow_ui, study.experiment, run)

    by_name = {trial.name: trial for trial in trials}
    metrics = [column.metric for column in presentation.columns]
    layouts = {row.id: row for row in presentation.rows}
    values = {row.id: _values(row, by_name, metrics) for row in presentation.rows}
    rows = [
        _Maker(row, presentation.comparable is None, layouts, values).row(
            _runs(row.trials, by_name, link), _runs(row.measurements, by_name, link)
        )
        for row in presentation.rows
    ]
    accuracy = [column.metric for column in presentation.columns if column.better is not None and column.metric not in COSTS]
    table = Table(
        study=study.id,
        name=one_line(study.name),
        title=one_line(presentation.title),
        state=study.state,
        dataset=one_line(study.spec["dataset"]),
        scale=one_line(study.spec["scale"]),
        columns=[column.model_copy(update={"title": one_line(column.title)}) for column in presentation.columns],
        rows=rows,
        claims=claims(_gained(rows, accuracy), accuracy),
        provenance=provenance(trials),
        table=_maybe(presentation.table),
        source=_source(presentation.source),
        comparable=_maybe(presentation.comparable),
        url=link(study.run),
        searches=[search.model_copy(update={"title": one_line(search.title)}) for search in presentation.searches],
    )
    return replace(table, notes=notes(table, study, presentation))


def _values(row: layout.Row, trials: Mapping[str, Result], metrics: Sequence[str]) -> Values:
    """What the row's trials that are done measured, completed by its measurement jobs, seed by seed."""
    of_seed = {trial.seed: dict(trial.metrics or {}) for name in row.trials if (trial := trials.get(name)) and trial.state.good}
    for name in row.measurements:
        job = trials.get(name)
        if job and job.state.good and job.seed in of_seed:
            of_seed[job.seed] |= job.metrics or {}
    found = {name: {seed: known[name] for seed, known in of_seed.items() if known.get(name) is not None} for name in metrics}
    return {name: values for name, values in found.items() if values}


def _runs(names: Iterable[str], trials: Mapping[str, Result], link: Link) -> list[Run]:
    known = (trials[name] for name in names if name in trials)
    return [Run(t.name, t.seed, t.state, _maybe(t.reason), link(t.run)) for t in known]


class _Maker:
    """Makes one row of its layout, with all rows' layouts and values at hand."""

    def __init__(self, row: layout.Row, comparable: bool, layouts: Mapping[str, layout.Row], values: Mapping[str, Values]) -> None:
        self.layout, self.comparable = row, comparable
        self.values: Values = values[row.id]
        self.over: Values = values.get(row.baseline or "", {})
        self.published_over = layouts[row.baseline].published if row.baseline and row.baseline in layouts else {}
        of, minus = (row.difference.of, row.difference.minus) if row.difference else ("", "")
        self.of: Values = values.get(of, {})
        self.minus: Values = values.get(minus, {})

    def row(self, runs: Sequence[Run], measurements: Sequence[Run]) -> Row:
        row = self.layout
        cells = self._differences() if row.difference else {name: self._cell(name) for name in self.values}
        return Row(
            id=one_line(row.id),
            title=one_line(row.title),
            role=row.role,
            cells=cells,
            runs=runs,
            measurements=measurements,
            printed={name: self._printed(name, published, cells.get(name)) for name, published in row.published.items()},
            group=_maybe(row.group),
            baseline=_maybe(row.baseline),
            difference=row.difference,
            line=_maybe(row.line),
            confidence=_maybe(row.confidence),
            remark=_maybe(row.remark),
            values=row.values,
            hidden=row.hidden,
        )

    def _cell(self, name: str) -> Cell:
        own = estimate(self.values[name], interval=name not in COUNTED)
        gain = difference(own.by_seed, self.over[name]) if name in self.over and name not in COSTS else None
        return Cell(own.mean, own.half_width, own.n, own.by_seed, gain)

    def _differences(self) -> dict[str, Cell]:
        found = {name: difference(self.of[name], self.minus[name], interval=name not in COUNTED) for name in self.of if name in self.minus}
        return {name: Cell(each.mean, each.half_width, each.n, each.by_seed) for name, each in found.items()}

    def _printed(self, name: str, published: layout.Published, cell: Cell | None) -> Printed:
        over = None if name in COSTS else self.published_over.get(name)
        return Printed(
            value=published.value,
            tolerance=published.tolerance,
            confidence=_maybe(published.confidence),
            remark=_maybe(published.remark),
            gain=_decimal(published.value - over.value) if over else None,
            difference=cell.mean - published.value if cell else None,
            verdict=judge(published, cell, self.comparable),
        )


def _gained(rows: Iterable[Row], metrics: Sequence[str]) -> list[Gained]:
    return [
        Gained(row.id, row.baseline, name, printed.gain, row.cells[name].gain if name in row.cells else None)
        for row in rows
        for name in metrics
        if row.baseline and (printed := row.printed.get(name)) and printed.gain is not None
    ]


def _decimal(value: float) -> float:
    """A difference of printed numbers as decimals have it: 38.7 - 38.4 is 0.3."""
    return round(value, 9)


def _source(source: Source | None) -> Source | None:
    return Source(**{name: _maybe(text) for name, text in source.model_dump().items()}) if source else None


def _maybe(text: str | None) -> str | None:
    return None if text is None else one_line(text)
