"""Studies, presentations and trials as the database holds them, made by hand for tables."""

from collections.abc import Sequence
from typing import Any

from orchestrator.machine import StudyState, TrialState
from orchestrator.records.schema import Study, Trial
from orchestrator.reporting.build import build
from orchestrator.reporting.table import Table
from studies.presentation import Column, Presentation, Published, Row

AP, AP50 = Column(metric="AP", title="AP"), Column(metric="AP50", title="AP50")


def row(name: str, role: str, seeds: int = 3, **fields: Any) -> Row:
    trials = tuple(f"{name}/seed-{seed}" for seed in range(seeds))
    return Row.model_validate({"id": name, "title": name, "role": role, "trials": trials} | fields)


def trial(name: str, seed: int, ap: float | None, state: TrialState = TrialState.FINISHED, **fields: Any) -> Trial:
    metrics = None if ap is None else {"AP": ap, "AP50": ap + 20}
    return Trial(**{"name": f"{name}/seed-{seed}", "seed": seed, "state": state, "metrics": metrics} | fields)


def trials(name: str, *aps: float | None, **fields: Any) -> list[Trial]:
    """One a seed from 0 on; a None failed."""
    states = {True: TrialState.FAILED, False: TrialState.FINISHED}
    return [trial(name, seed, ap, states[ap is None], **fields) for seed, ap in enumerate(aps)]


def study(**fields: Any) -> Study:
    spec = {"dataset": "digits", "scale": "nano"}
    return Study(**{"id": 3, "name": "a try", "spec": spec, "state": StudyState.FINISHED, "experiment": "5", "run": "parent"} | fields)


def presentation(*rows: Row, **fields: Any) -> Presentation:
    return Presentation.model_validate({"title": "a try", "columns": (AP, AP50), "rows": rows} | fields)


def table(rows: Sequence[Row], of: Sequence[Trial], mlflow: str | None = None, **fields: Any) -> Table:
    """The table of a finished study with these rows; `fields`: of the presentation."""
    return build(study(), presentation(*rows, **fields), of, mlflow)


def published(value: float, tolerance: float | None = 0.2, **fields: Any) -> Published:
    return Published(value=value, tolerance=tolerance, **fields)


TEACHER, BASE, KD = row("teacher", "teacher", 1), row("student", "baseline"), row("fitnet", "distilled", baseline="student")
TRIALS = [
    trial("teacher", 0, 75.66),
    *(trial("student", seed, ap, run=f"run{seed}") for seed, ap in enumerate([30.0, 31.0, 32.0])),
    *(trial("fitnet", seed, ap) for seed, ap in enumerate([40.0, 42.0])),
    trial("fitnet", 2, None, TrialState.FAILED, reason="the loss became NaN"),
]


def a_try(**fields: Any) -> Table:
    """A teacher, a student of three seeds and a distilled one of which the third failed; `fields`: of the study."""
    return build(study(**fields), presentation(TEACHER, BASE, KD), TRIALS, "http://mlflow:5000/")
