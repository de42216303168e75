"""The table of a study as data: rows as the presentation lays them out, each cell with what was published and what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.machine import StudyState, TrialState
from orchestrator.reporting.claims import Claims
from orchestrator.reporting.provenance import Provenance
from orchestrator.reporting.statistics import Estimate
from orchestrator.reporting.verdicts import Verdict
from studies.presentation import Column, Difference, Searched, Source


@dataclass(frozen=True)
class Cell(Estimate):
    """A metric of a row as measured. gain: over the row's baseline; None for the baseline itself and for what a network costs."""

    gain: Estimate | None = None


@dataclass(frozen=True)
class Printed:
    """A published number beside what was measured.

    gain: the published one, over the published number of the row's baseline. difference: measured minus published.
    """

    value: float
    tolerance: float | None
    confidence: str | None
    remark: str | None
    gain: float | None
    difference: float | None
    verdict: Verdict | None

    @property
    def remarked(self) -> bool:
        """Whether there is something to say of it: it has an asterisk."""
        return bool(self.remark or self.confidence)


@dataclass(frozen=True)
class Run:
    """One trial behind a row. `url`: its MLflow run, None until there is one."""

    trial: str
    seed: int
    state: TrialState
    reason: str | None
    url: str | None


@dataclass(frozen=True)
class Row:
    """A row. cells: by metric, only those with a result. printed: by metric, only those with a published number.

    runs: its trainings. measurements: the jobs that completed their metrics. The rest is as in the presentation.
    """

    id: str
    title: str
    role: str  # teacher, baseline, distilled or difference
    cells: Mapping[str, Cell]
    runs: Sequence[Run]
    measurements: Sequence[Run] = ()
    printed: Mapping[str, Printed] = field(default_factory=dict)
    group: str | None = None
    baseline: str | None = None
    difference: Difference | None = None
    line: str | None = None
    confidence: str | None = None
    remark: str | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    hidden: bool = False

    @property
    def done(self) -> int:
        return sum(run.state.good for run in self.runs)

    @property
    def cached(self) -> int:
        return sum(run.state == TrialState.CACHED for run in self.runs)

    @property
    def failed(self) -> list[Run]:
        return [run for run in self.runs if run.state == TrialState.FAILED]

    @property
    def seeds(self) -> str:
        """The column that says how many seeds are done: "3", "2/3", "3 (cached)", "1/3 (1 failed)"."""
        if self.difference:
            return str(max((cell.n for cell in self.cells.values()), default=0))
        told = str(self.done) if self.done == len(self.runs) else f"{self.done}/{len(self.runs)}"
        marks = [f"{len(self.failed)} failed"] if self.failed else []
        if self.cached:
            marks.append("cached" if self.cached == self.done else f"{self.cached} cached")
        return told + (f" ({', '.join(marks)})" if marks else "")

    @property
    def usual_n(self) -> int:
        """How many values a cell has where nothing lacks."""
        return max((cell.n for cell in self.cells.values()), default=0) if self.difference else self.done


@dataclass(frozen=True)
class Table:
    """A study's table. All its texts are one line each.

    name: the study's. title: the table's. table: id of the shipped table it is. comparable: why published numbers cannot be judged.
    url: the study's MLflow run. searches: what was tried of the arms that are searched.
    notes: lines printed below it (how to read it, what failed and why).
    """

    study: int
    name: str
    title: str
    state: StudyState
    dataset: str
    scale: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    claims: Claims
    provenance: Provenance
    table: str | None = None
    source: Source | None = None
    comparable: str | None = None
    url: str | None = None
    searches: Sequence[Searched] = ()
    notes: Sequence[str] = ()

    @property
    def metrics(self) -> list[str]:
        return [column.metric for column in self.columns]

    @property
    def shown(self) -> list[Row]:
        """The rows that are printed; the hidden ones are told below."""
        return [row for row in self.rows if not row.hidden]

    @property
    def hidden(self) -> list[Row]:
        return [row for row in self.rows if row.hidden]

    @property
    def judged(self) -> bool:
        """Whether there is a published number in it."""
        return any(row.printed for row in self.rows)

    @property
    def name_of(self) -> Mapping[str, str]:
        """The title of each row by its id."""
        return {row.id: row.title for row in self.rows}
