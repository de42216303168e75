"""Which pictures there are of a study, and each drawn from its table, its epochs and its measurements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.figures import components, error_types, forest, learning_curves, pictures, search, sensitivity, teachers
from orchestrator.figures.documents import Document, read
from orchestrator.figures.factors import factors_of
from orchestrator.figures.networks import network_title, taught_title
from orchestrator.records.schema import Arm, Trial
from orchestrator.records.store import Store
from orchestrator.reporting.build import build
from orchestrator.reporting.table import Row, Table
from orchestrator.searching.tried import Tried
from orchestrator.storage.files import TrialFiles
from studies.catalog import COSTS
from studies.spec import Search

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[], "Figure"]
Epochs = Mapping[str, Mapping[int, float]]  # trial's name -> epoch -> the metric


@dataclass(frozen=True)
class Material:
    """All that pictures are drawn from. metric: that of the table's first column of accuracy."""

    table: Table
    trials: Mapping[str, Trial]
    arms: Mapping[int, Arm]
    epochs: Epochs
    metric: str
    files: TrialFiles
    search: Search | None = None  # of the study, where values are drawn while it runs
    tried: Mapping[str, Sequence[Tried]] = field(default_factory=dict)  # by arm

    @classmethod
    def of(cls, store: Store, study_id: int) -> Material:
        """Of a stored study. Raises NoSuchStudy."""
        study = store.study(study_id)
        table = told_apart(build(study, store.presentation(study_id), trials := store.trials(study_id)))
        accuracy = [column.metric for column in table.columns if column.better is not None and column.metric not in COSTS]
        metric = accuracy[0] if accuracy else "AP"
        arms = {arm.id: arm for arm in store.arms(study_id)}
        found = cls(table, {trial.name: trial for trial in trials}, arms, store.epochs_of(study_id, metric), metric, store.files)
        if not table.searches:
            return found
        return replace(found, search=Search.model_validate(study.spec["search"]), tried=store.tried(study_id))

    @property
    def rows(self) -> Sequence[Row]:
        """Rows that have trainings of their own, hidden teachers too."""
        return [row for row in self.table.rows if row.runs]

    def arm(self, row: Row) -> Arm:
        return self.arms[self.trials[row.runs[0].trial].arm_id]

    def value(self, row: Row) -> float | None:
        cell = row.cells.get(self.metric)
        return cell.mean if cell else None

    def documents(self, kind: str) -> list[Document]:
        """Finished measurements of a kind, in the order of the study."""
        mine = (trial for trial in self.trials.values() if trial.measurement and trial.measurement["kind"] == kind)
        return [found for trial in mine if (found := read(trial, self.files))]

    def measured(self, kind: str) -> Iterable[tuple[Row, list[Document]]]:
        """Rows with their measurements of a kind."""
        documents = self.documents(kind)
        for row in self.rows:
            own = {run.trial for run in row.runs}
            found = [document for document in documents if document.detector in own]
            if found:
                yield row, found


def pictures_of(material: Material) -> dict[str, Draw]:
    """The pictures that this study has, by name, in the order in which they are worth a look; each is drawn when it is called."""
    found: dict[str, Draw] = {}
    curves = [learning_curves.Curve(row.title, {run.seed: material.epochs.get(run.trial, {}) for run in row.runs}) for row in material.rows]
    if any(learning_curves.bands(curve) for curve in curves):
        found["learning-curves"] = partial(learning_curves.draw, curves, material.metric)
    if gains := gains_of(material):
        found["gains"] = partial(forest.draw, gains, material.metric)
    best = {name for search in material.table.searches for name in search.found}
    if factors := factors_of([row for row in material.rows if row.id not in best], material.metric, lambda row: material.arm(row).detail):
        found["sensitivity"] = partial(sensitivity.draw, factors, material.metric, baseline_of(material))
    pairs, alone = pairs_of(material)
    if len({pair.teacher for pair in pairs}) > 1:
        found["teachers"] = partial(teachers.draw, pairs, material.metric, alone)
    if panels := error_panels(material):
        found["errors"] = partial(error_types.draw, panels, len(panels[0][1]))
    if costs := costs_of(material):
        found["components"] = partial(components.draw, costs)
    for searched in material.table.searches:
        assert material.search
        found |= search.pictures(material.search, searched, material.tried.get(searched.arm, ()))
    return found | pictures.of_measurements(material.measured)


def told_apart(table: Table) -> Table:
    """The table with the group before every title that several rows have: pictures have no headings."""
    often = Counter(row.title for row in table.rows)
    rows = [replace(row, title=f"{row.group}: {row.title}") if row.group and often[row.title] > 1 else row for row in table.rows]
    return replace(table, rows=rows)


def gains_of(material: Material) -> list[forest.Gain]:
    """Rows with a gain, measured or published."""
    gains = []
    for row in material.table.shown:
        cell, printed = row.cells.get(material.metric), row.printed.get(material.metric)
        gain, published = cell.gain if cell else None, printed.gain if printed else None
        if gain or published is not None:
            seeds = f"{gain.n} seeds" if gain and gain.n > 1 else "1 seed" if gain else ""
            gains.append(forest.Gain(row.title, gain.mean if gain else None, gain.half_width if gain else None, published, seeds))
    return gains


def baseline_of(material: Material) -> float | None:
    """The metric of the row that the searched ones gain over, where they all have one."""
    by_id = {row.id: row for row in material.rows}
    baselines = {row.baseline for row in material.rows if row.values}
    only = by_id.get(next(iter(baselines)) or "") if len(baselines) == 1 else None
    return material.value(only) if only else None


def pairs_of(material: Material) -> tuple[list[teachers.Pair], dict[str, float]]:
    """Taught students with their teachers, and by student the metric of the one that learns alone."""
    pairs, alone = [], {}
    by_id = {row.id: row for row in material.rows}
    for row in material.rows:
        teacher = material.trials.get(material.trials[row.runs[0].trial].teacher or "")
        ours, theirs = material.value(row), (teacher.metrics or {}).get(material.metric) if teacher else None
        if teacher is None or ours is None or theirs is None:
            continue
        student = taught_title(material.arm(row).detail)
        pairs.append(teachers.Pair(student, network_title(material.arms[teacher.arm_id].detail["network"]), theirs, ours))
        baseline = by_id.get(row.baseline or "")
        if baseline and (value := material.value(baseline)) is not None:
            alone[student] = value
    return pairs, alone


def error_panels(material: Material) -> list[tuple[str, error_types.ByArea]]:
    """Each row's curves by area, mean over its seeds: as measured, else those that its trainings left."""
    measured = [(row.title, error_types.mean_by_area([d.content["curves"] for d in found])) for row, found in material.measured("errors")]
    if measured:
        return measured
    left = [
        (row.title, [c for run in row.runs if (c := error_types.read(material.trials[run.trial], material.files))]) for row in material.rows
    ]
    return [(title, {"all": error_types.mean(curves)}) for title, curves in left if curves]


def costs_of(material: Material) -> list[components.Cost]:
    """Each network once."""
    costs: dict[str, components.Cost] = {}
    for row, found in material.measured("costs"):
        title = network_title(material.arm(row).detail["network"])
        costs.setdefault(title, components.Cost(title, found[0].metrics))
    return list(costs.values())
