"""The lines below a table: how to read it, where its numbers are from, what deviates from the source, and what failed and why."""

from collections import Counter
from collections.abc import Iterable, Sequence

from orchestrator.records.schema import Study
from orchestrator.reporting.rendering.numbers import value
from orchestrator.reporting.table import Row, Run, Table
from studies.inert import one_line
from studies.presentation import Presentation

SHORT = 12  # digits of a digest


def notes(table: Table, study: Study, presentation: Presentation) -> list[str]:
    """A sentence each, on one line."""
    told = [*_reading(table), *_searches(table), *_source(table, presentation), *_hidden(table), *_remarks(table)]
    if table.scale == "smoke":
        told.append("Scale smoke proves the path; these numbers measure nothing.")
    if not study.state.final:
        told.append(f"The study is {study.state}: this is what is there so far.")
    if study.reason:
        told.append(f"The study failed: {_reason(study.reason)}")
    told += _provenance(table)
    told += [f"{row.title}, seed {run.seed} failed: {_reason(run.reason)}" for row in table.rows for run in row.failed]
    told += [f"{row.title}, seed {run.seed}: measuring failed: {_reason(run.reason)}" for row in table.rows for run in _unmeasured(row)]
    return [one_line(line) for line in told]


def _reading(table: Table) -> Iterable[str]:
    if any(len(row.runs) > 1 for row in table.rows):
        yield "± is the half-width of the 95% t interval over the seeds."
    beside = [(row, cell.gain) for row in table.shown for name, cell in row.cells.items() if cell.gain and name not in row.printed]
    if beside:
        paired = any(gain.half_width is not None for _, gain in beside)
        over = {row.baseline for row, _ in beside}
        roles = {row.role for row in table.rows if row.id in over}
        what = "the student without a distiller" if roles == {"baseline"} else "the row it is compared with"
        yield f"In parentheses: difference to {what}" + (", ± over the differences seed by seed." if paired else ".")
    fewer = [row.title for row in table.rows if any(c.gain and c.gain.by_seed and c.gain.n < c.n for c in row.cells.values())]
    if fewer:
        yield f"Differences over the seeds alone that both rows have: {_listed(fewer)}."
    if "FPS" in table.metrics:
        devices = ", and on ".join(table.provenance.devices) or "the device of the trial"
        yield f"FPS is of one image at a time on {devices}, beside what else ran there."


def _searches(table: Table) -> Iterable[str]:
    """How each arm was searched, and that its best is not told by what chose it."""
    for search in table.searches:
        ends = Counter(tried.outcome for tried in search.tried if tried.outcome)
        told = [f"{ends[outcome]} {word}" for outcome, word in (("stopped", "stopped early"), ("failed", "failed")) if ends[outcome]]
        wanted = " and ".join(goal.metric if goal.over == "mean" else f"the lower end of {goal.metric}'s interval" for goal in search.goals)
        how = search.algorithm if search.scheduler == "none" else f"{search.algorithm} with {search.scheduler}"
        tried = f"{sum(ends.values())} of {search.planned} combinations tried" + (f" ({', '.join(told)})" if told else "")
        yield f"{search.title} is searched for {wanted} ({how}, trained with {_seeds(search.seeds)}): {tried}."
        for row in (row for row in table.rows if row.id in search.found):
            number = int(row.id.rpartition("-")[2])
            goals = next((each.goals for each in search.tried if each.number == number), ())
            chosen = ", ".join(f"{goal.metric} {at:.4g}" for goal, at in zip(search.goals, goals, strict=False))
            yield f"{row.title} was chosen by {chosen} there; its numbers here are of {_seeds(search.confirm)}, which chose nothing."
        if not search.found and len(search.tried) == search.planned and all(tried.outcome for tried in search.tried):
            yield f"No combination of {search.title} came to its end, so it has no best."


def _seeds(seeds: Sequence[int]) -> str:
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds))


def _source(table: Table, presentation: Presentation) -> Iterable[str]:
    if table.comparable:
        yield f"Published numbers cannot be judged here: {_ended(table.comparable)}"
    if table.source:
        venue = f", {table.source.venue}" if table.source.venue else ""
        yield f"Published: {table.source.title}{venue}."
    if presentation.variants:
        yield f"Where paper and released code disagree, the variant used is: {', '.join(presentation.variants)}."
    yield from (_ended(warning) for warning in presentation.warnings)
    yield from (_ended(note) for note in presentation.notes)


def _hidden(table: Table) -> Iterable[str]:
    """Teachers that the source does not print."""
    for row in table.hidden:
        cells = [f"{column.title} {value(row.cells[column.metric], column)}" for column in table.columns if column.metric in row.cells]
        yield f"Not printed by the source: {row.title}: {', '.join(cells) or 'no result'}, seeds {row.seeds}."


def _remarks(table: Table) -> Iterable[str]:
    """What is to be said of published numbers and rows, equal remarks together."""
    told: dict[tuple[str, str], list[str]] = {}
    for row in table.rows:
        for text in filter(None, (row.confidence, row.remark)):
            told.setdefault(("", text), []).append(row.title)
        for column in table.columns:
            printed = row.printed.get(column.metric)
            for text in filter(None, (printed.confidence, printed.remark) if printed else ()):
                told.setdefault((column.title, text), []).append(row.title)
    for (column_title, text), rows in told.items():
        what = f"{column_title} of " if column_title else ""
        yield f"{what}{_listed(rows)}: {_ended(text)}"


def _provenance(table: Table) -> Iterable[str]:
    known = table.provenance
    if known.datasets:
        yield f"Dataset {table.dataset}: {_listed([digest[:SHORT] for digest in known.datasets])}."
    codes = [code[:SHORT] for code in known.training_codes]
    if len(codes) > 1:
        yield f"Its trials were trained by {len(codes)} versions of the code: {_listed(codes)}."
    if len(codes) == 1 or known.libraries:
        yield f"Trained by {', '.join([*(f'code {code}' for code in codes if len(codes) == 1), *known.libraries])}."


def _unmeasured(row: Row) -> Sequence[Run]:
    return [run for run in row.measurements if run.state == "failed"]


def _listed(names: Sequence[str]) -> str:
    """Each once; the first six of many."""
    once = list(dict.fromkeys(names))
    return ", ".join(once) if len(once) <= 7 else f"{', '.join(once[:6])} and {len(once) - 6} more"


def _ended(text: str) -> str:
    return text if text.rstrip()[-1:] in (".", "!", "?") else f"{text}."


def _reason(text: str | None) -> str:
    return text or "no reason known"
