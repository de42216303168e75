"""The table of a study, arms x metrics, as a pure function of what is stored; and its five formats.

Each cell: mean over the seeds that are done, half-width of the 95% t interval from two seeds on, difference of means to the baseline
(the arm without distiller on the same student). What a network costs is given without a difference, what is counted without an interval.
"""

import csv
import html
import io
import json
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from scipy.stats import t as student_t

from orchestrator.machine import StudyState, TrialState
from orchestrator.schema import Arm, Study, Trial
from studies.catalog import COSTS, COUNTED, DECIMALS
from studies.expand import batch_warning
from studies.spec import MethodUse, Schedule

Format = Literal["md", "csv", "json", "tex", "html"]
FORMATS: tuple[str, ...] = get_args(Format)
CONTENT_TYPES: dict[str, str] = {
    "md": "text/markdown; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "tex": "application/x-tex; charset=utf-8",
    "html": "text/html; charset=utf-8",
}


@dataclass(frozen=True)
class Cell:
    """A metric of a row. half_width: of the 95% t interval, None for one seed or a count. difference: to the baseline's mean.

    difference is None for the baseline itself and for costs. difference_half_width: of the 95% t interval of the seeds' own
    differences, which start from the same weights and see the same images; None where the two have not the same seeds.
    """

    mean: float
    half_width: float | None
    difference: float | None = None
    difference_half_width: float | None = None


PARTS = ("half_width", "difference", "difference_half_width")  # of a cell beside its mean


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
    """An arm or a teacher. `cells`: by metric, only those with a result."""

    id: str
    title: str
    role: str  # teacher, baseline or distilled
    cells: dict[str, Cell]
    runs: list[Run]

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
        told = str(self.done) if self.done == len(self.runs) else f"{self.done}/{len(self.runs)}"
        marks = [f"{len(self.failed)} failed"] if self.failed else []
        if self.cached:
            marks.append("cached" if self.cached == self.done else f"{self.cached} cached")
        return told + (f" ({', '.join(marks)})" if marks else "")


@dataclass(frozen=True)
class Table:
    """A study's table. `notes`: lines printed below it (how to read it, what failed and why)."""

    study: int
    name: str
    state: StudyState
    dataset: str
    scale: str
    metrics: list[str]
    rows: list[Row]
    url: str | None  # the study's MLflow run
    notes: list[str]


def build(study: Study, arms: Sequence[Arm], trials: Sequence[Trial], mlflow_ui: str | None = None) -> Table:
    """The table of what is there so far. `mlflow_ui`: base URL that runs are linked to."""

    def link(run: str | None) -> str | None:
        return f"{mlflow_ui.rstrip('/')}/#/experiments/{study.experiment}/runs/{run}" if mlflow_ui and study.experiment and run else None

    metrics: list[str] = study.spec["metrics"]
    values = {arm.id: _by_seed(arm, trials, metrics) for arm in arms}
    rows = []
    for arm in arms:
        baseline = _baseline(arm, arms)
        base = values[baseline.id] if baseline else {}
        cells = {name: _measured(name, of_seed, base.get(name)) for name, of_seed in values[arm.id].items()}
        runs = [Run(t.name, t.seed, t.state, t.reason, link(t.run)) for t in trials if t.arm_id == arm.id]
        rows.append(Row(arm.name, arm.title, arm.role, cells, runs))
    table = Table(study.id, study.name, study.state, study.spec["dataset"], study.spec["scale"], metrics, rows, link(study.run), [])
    table.notes.extend(_notes(study, table, arms, trials))
    return table


def _by_seed(arm: Arm, trials: Sequence[Trial], metrics: Sequence[str]) -> dict[str, dict[int, float]]:
    """Metric -> seed -> value, of the trials of an arm that are done and have it."""
    good = [(trial.seed, trial.metrics or {}) for trial in trials if trial.arm_id == arm.id and trial.state.good]
    found = {name: {seed: m[name] for seed, m in good if m.get(name) is not None} for name in metrics}
    return {name: of_seed for name, of_seed in found.items() if of_seed}


def _measured(name: str, values: dict[int, float], base: dict[int, float] | None) -> Cell:
    """The cell of a metric, by seed; `base`: that of the baseline."""
    mean, interval = _mean(values.values()), None if name in COUNTED else half_width(list(values.values()))
    if base is None or name in COSTS:
        return Cell(mean, interval)
    paired = half_width([value - base[seed] for seed, value in values.items()]) if values.keys() == base.keys() else None
    return Cell(mean, interval, mean - _mean(base.values()), paired)


def _mean(values: Collection[float]) -> float:
    return math.fsum(values) / len(values)


def half_width(values: Sequence[float]) -> float | None:
    """Half-width of the two-sided 95% Student t interval of the mean; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return float(student_t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)


def _baseline(arm: Arm, arms: Sequence[Arm]) -> Arm | None:
    """The baseline of a distilled arm: the same student without distiller, with the same schedule where there is a choice."""
    if arm.role != "distilled":
        return None
    same = [other for other in arms if other.role == "baseline" and other.detail["network"] == arm.detail["network"]]
    return next((other for other in same if other.detail["schedule"] == arm.detail["schedule"]), same[0] if same else None)


def _notes(study: Study, table: Table, arms: Sequence[Arm], trials: Sequence[Trial]) -> list[str]:
    notes = []
    if any(len(row.runs) > 1 for row in table.rows):
        notes.append("± is the half-width of the 95% t interval over the seeds.")
    if any(cell.difference is not None for row in table.rows for cell in row.cells.values()):
        told = "In parentheses: difference to the student without a distiller"
        paired = any(cell.difference_half_width is not None for row in table.rows for cell in row.cells.values())
        notes.append(f"{told}, ± over the differences seed by seed." if paired else f"{told}.")
    if "FPS" in table.metrics:
        devices = sorted({(trial.environment or {}).get("device", "an unknown device") for trial in trials if trial.state.good})
        notes.append(
            f"FPS is of one image at a time on {', and on '.join(devices) or 'the device of the trial'}, beside what else ran there."
        )
    variants = {
        f"{arm.title} ({use['options']['variant']})" for arm in arms for use in arm.detail["distillers"] if "variant" in use["options"]
    }
    if variants:
        notes.append(f"Where paper and released code disagree, the form used is: {', '.join(sorted(variants))}.")
    notes.extend(f"{warning}." for warning in _batch_warnings(study, arms))
    if study.spec["scale"] == "smoke":
        notes.append("Scale smoke proves the path; these numbers measure nothing.")
    if not study.state.final:
        notes.append(f"The study is {study.state}: this is what is there so far.")
    if study.reason:
        notes.append(f"The study failed: {_one_line(study.reason)}")
    versions = {(trial.environment or {}).get("training_code") for trial in trials if trial.state.good} - {None}
    if len(versions) > 1:
        notes.append(f"Its trials were trained by {len(versions)} versions of the code.")
    notes.extend(f"{row.title}, seed {run.seed} failed: {_one_line(run.reason)}" for row in table.rows for run in row.failed)
    return notes


def _batch_warnings(study: Study, arms: Sequence[Arm]) -> list[str]:
    gpus = study.spec["resources"]["gpus"]
    found = (
        batch_warning(arm.title, MethodUse(**use), Schedule(**arm.detail["schedule"]), gpus)
        for arm in arms
        for use in arm.detail["distillers"]
    )
    return [warning for warning in found if warning]


def _one_line(text: str | None) -> str:
    return " ".join((text or "no reason known").split())


def render(table: Table, format: Format) -> str:
    """The table as text, ending in a newline."""
    return _RENDERERS[format](table)


def _cell(row: Row, metric: str, plus_minus: str = "±") -> str:
    """ "47.9 ±0.4 (+10.3)"; an en dash where there is nothing."""
    cell, digits = row.cells.get(metric), DECIMALS.get(metric, 1)
    if cell is None:
        return "–"  # noqa: RUF001
    interval = "" if cell.half_width is None else f" {plus_minus}{cell.half_width:.{digits}f}"
    if cell.difference is None:
        return f"{cell.mean:.{digits}f}{interval}"
    paired = "" if cell.difference_half_width is None else f" {plus_minus}{cell.difference_half_width:.{digits}f}"
    # Adding 0.0 makes a difference that prints as nought "+0.0".
    return f"{cell.mean:.{digits}f}{interval} ({round(cell.difference, digits) + 0.0:+.{digits}f}{paired})"


def _grid(table: Table) -> list[list[str]]:
    """Header and rows as printed in md."""
    header = ["arm", *table.metrics, "seeds"]
    return [header, *([row.title, *(_cell(row, m) for m in table.metrics), row.seeds] for row in table.rows)]


def _md(table: Table) -> str:
    grid = [[field.replace("|", "\\|") for field in line] for line in _grid(table)]
    widths = [max(len(line[i]) for line in grid) for i in range(len(grid[0]))]
    lines = ["| " + " | ".join(field.ljust(width) for field, width in zip(line, widths, strict=True)) + " |" for line in grid]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    head = f"**{table.name}** (study {table.study}, {table.dataset}, scale {table.scale})"
    return "\n".join([head, "", lines[0], rule, *lines[1:], *(["", *(f"- {note}" for note in table.notes)] if table.notes else [])]) + "\n"


def _csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    per_metric = [name for m in table.metrics for name in (m, *(f"{m}_{part}" for part in PARTS))]
    writer.writerow(["arm", "title", "role", *per_metric, "seeds_done", "seeds", "failed", "cached"])
    for row in table.rows:
        numbers: list[Any] = []
        for name in table.metrics:
            cell = row.cells.get(name)
            numbers += [cell.mean, *(getattr(cell, part) for part in PARTS)] if cell else [None] * (1 + len(PARTS))
        writer.writerow([_inert(row.id), _inert(row.title), row.role, *numbers, row.done, len(row.runs), len(row.failed), row.cached])
    return out.getvalue()


def _inert(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@") else text


def as_data(table: Table) -> dict[str, Any]:
    """The table as JSON data."""
    return {
        "study": table.study,
        "name": table.name,
        "state": str(table.state),
        "dataset": table.dataset,
        "scale": table.scale,
        "url": table.url,
        "metrics": table.metrics,
        "rows": [
            {
                "id": row.id,
                "title": row.title,
                "role": row.role,
                "cells": {name: asdict(cell) for name, cell in row.cells.items()},
                "seeds_done": row.done,
                "runs": [{"trial": r.trial, "seed": r.seed, "state": str(r.state), "reason": r.reason, "url": r.url} for r in row.runs],
            }
            for row in table.rows
        ],
        "notes": table.notes,
    }


def _json(table: Table) -> str:
    return json.dumps(as_data(table), indent=2, ensure_ascii=False) + "\n"


_TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _tex_escaped(text: str) -> str:
    return "".join(_TEX.get(char, char) for char in text)


def _tex(table: Table) -> str:
    def line(fields: list[str]) -> str:
        return " & ".join(fields) + r" \\"

    def cell(row: Row, metric: str) -> str:
        return "$" + _cell(row, metric, r"\pm ") + "$" if metric in row.cells else "--"

    header, *_ = _grid(table)
    body = [line([_tex_escaped(row.title), *(cell(row, m) for m in table.metrics), _tex_escaped(row.seeds)]) for row in table.rows]
    teachers = sum(row.role == "teacher" for row in table.rows)
    if 0 < teachers < len(body):
        body.insert(teachers, r"\midrule")
    return "\n".join(
        [
            f"% {table.name} (study {table.study}); needs \\usepackage{{booktabs}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.metrics)}l}}",
            r"\toprule",
            line([_tex_escaped(field) for field in header]),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *(f"% {note}" for note in table.notes),
        ]
    ) + "\n"  # fmt: skip


def _html(table: Table) -> str:
    escape = html.escape
    head = "".join(f"<th>{escape(field)}</th>" for field in _grid(table)[0])
    rows = []
    for row in table.rows:
        cells = "".join(f"<td>{escape(_cell(row, m))}</td>" for m in table.metrics)
        linked = " ".join(f'<a href="{escape(run.url)}">{run.seed}</a>' for run in row.runs if run.url)
        seeds = escape(row.seeds) + (f" · runs: {linked}" if linked else "")
        rows.append(f'<tr class="{escape(row.role)}"><th scope="row">{escape(row.title)}</th>{cells}<td>{seeds}</td></tr>')
    notes = "".join(f"<p>{escape(note)}</p>" for note in table.notes)
    caption = f"<caption>{escape(table.name)} (study {table.study}, {escape(table.dataset)}, scale {escape(table.scale)})</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{notes}\n"


_RENDERERS: dict[str, Callable[[Table], str]] = {"md": _md, "csv": _csv, "json": _json, "tex": _tex, "html": _html}
