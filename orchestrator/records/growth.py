"""Trials join a study: all of them when it is made, and those that a search asks for while it runs. Ten thousand take about a second."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Insert, func, insert, select, union
from sqlalchemy.orm import Session, aliased

from orchestrator.machine import TrialState
from orchestrator.records.schema import MEASUREMENT, Arm, Need, Trial, table_of
from studies.expand import PlannedRow, PlannedTrial
from studies.planned_measures import PlannedMeasurement


class Planned(Protocol):
    """Rows, their trials, and what is measured of these."""

    @property
    def rows(self) -> Sequence[PlannedRow]: ...
    @property
    def trials(self) -> Sequence[PlannedTrial]: ...
    @property
    def measurements(self) -> Sequence[PlannedMeasurement]: ...


@dataclass(frozen=True)
class Additions:
    """Arms and trials by column, made without a database so that its lock is held for the writing alone.

    A trial's `row` names the arm of a training, or the training that a measurement measures; it is no column. Its state is that of one
    whose teacher is new too.
    """

    arms: tuple[Mapping[str, Any], ...]
    trials: tuple[Mapping[str, Any], ...]


def additions(planned: Planned) -> Additions:
    """What rows and trials become: trainings, behind them measurements."""
    trials = (*_trainings(planned), *_measurements(planned))
    return Additions(tuple(_arms(planned)), tuple({**trial, "losses": 0, "epoch": 0, **_start(_needs(trial), {})} for trial in trials))


def add_trials(session: Session, study_id: int, added: Additions) -> dict[TrialState, int]:
    """Adds arms, trials, and what each needs, behind all that the study has; how many are in which state.

    A measurement that the study has already is left out.
    """
    start = _behind(session, Arm, study_id)
    arms = [{**arm, "study_id": study_id, "position": position} for position, arm in enumerate(added.arms, start)]
    if arms:
        session.execute(insert(table_of(Arm)), arms)
    arm_ids = _ids(session, study_id)
    known = {name: (id, state, arm) for name, id, state, arm in _trials_of(session, study_id, added)}
    arm_of = {name: arm for name, (_, _, arm) in known.items()}
    trials: list[dict[str, Any]] = []
    behind = _behind(session, Trial, study_id)
    for position, new in enumerate((each for each in added.trials if each["name"] not in known), behind):
        arm = arm_of[new["row"]] if new["role"] == MEASUREMENT else arm_ids[new["row"]]
        arm_of[new["name"]] = arm
        trial = {**new, "study_id": study_id, "arm_id": arm, "position": position}
        del trial["row"]
        trials.append(trial | _start(_needs(trial), known) if known else trial)
    if not trials:
        return {}
    session.execute(insert(table_of(Trial)), trials)
    session.execute(_needed_by(study_id, behind))
    return dict(Counter(trial["state"] for trial in trials))


def _needed_by(study_id: int, position: int) -> Insert:
    """Writes what the study's trials from this position on need; the database knows their ids."""
    needed = aliased(Trial)
    found = [
        select(needed.id, Trial.id).join(needed, (needed.study_id == Trial.study_id) & (needed.name == name))
        for name in (Trial.teacher, Trial.measurement["detector"].as_string())
    ]
    pairs = union(*(pair.where(Trial.study_id == study_id, Trial.position >= position) for pair in found))
    return insert(table_of(Need)).from_select(["needed_id", "trial_id"], pairs)


def _trials_of(session: Session, study_id: int, added: Additions) -> Iterable[tuple[str, int, TrialState, int]]:
    """Of the study's trials those that new ones need, or that are there already."""
    wanted = {name for trial in added.trials for name in _needs(trial)}
    wanted |= {trial["name"] for trial in added.trials if trial["role"] == MEASUREMENT}
    names = sorted(wanted - {trial["name"] for trial in added.trials if trial["role"] != MEASUREMENT})
    for start in range(0, len(names), 500):  # a statement has room for so many values in every database
        query = select(Trial.name, Trial.id, Trial.state, Trial.arm_id)
        yield from session.execute(query.where(Trial.study_id == study_id, Trial.name.in_(names[start : start + 500]))).tuples()


def _start(needed: Sequence[str], known: Mapping[str, tuple[int, TrialState, int]]) -> dict[str, Any]:
    """A new trial's state: waiting for those that it needs, ready, or failed as one of them has."""
    needs = [(name, known[name][1] if name in known else TrialState.WAITING) for name in needed]
    lacking = [name for name, state in needs if not state.good]
    broken = next((name for name, state in needs if state == TrialState.FAILED), None)
    if broken:
        return {"state": TrialState.FAILED, "lacking": len(lacking), "reason": f"it needs {broken}, which failed", "failure": "user"}
    return {"state": TrialState.WAITING if lacking else TrialState.READY, "lacking": len(lacking), "reason": None, "failure": None}


def _needs(trial: Mapping[str, Any]) -> list[str]:
    """Names of the trials whose results it needs."""
    measured = trial["measurement"]["detector"] if trial["measurement"] else None
    return sorted({name for name in (measured, trial["teacher"]) if name is not None})


def _ids(session: Session, study_id: int) -> dict[str, int]:
    """Its arms' ids by their names."""
    return dict(session.execute(select(Arm.name, Arm.id).where(Arm.study_id == study_id)).tuples().all())


def _behind(session: Session, table: type[Arm] | type[Trial], study_id: int) -> int:
    last = session.scalar(select(func.max(table.position)).where(table.study_id == study_id))
    return 0 if last is None else last + 1


def _arms(planned: Planned) -> list[dict[str, Any]]:
    used = {trial.row for trial in planned.trials}  # a row whose trials are all those of another has none of its own
    origins = {trial.row: {"weights": trial.weights, "init": trial.init} for trial in planned.trials}
    return [
        {
            "name": row.id,
            "title": row.title,
            "role": row.role,
            "detail": {
                "network": row.network.model_dump(mode="json"),
                "schedule": row.schedule.model_dump(mode="json"),
                "distillers": [use.model_dump(mode="json") for use in row.distillers],
                "teacher": row.teacher,
                **origins[row.id],
                "values": dict(row.values),
            },
        }
        for row in planned.rows
        if row.id in used
    ]


def _trainings(planned: Planned) -> list[dict[str, Any]]:
    return [
        {
            "row": trial.row,
            "name": trial.id,
            "title": f"{trial.title} · seed {trial.seed}",
            "role": trial.role,
            "seed": trial.seed,
            "teacher": trial.teacher,
            "measurement": None,
        }
        for trial in planned.trials
    ]


def _measurements(planned: Planned) -> list[dict[str, Any]]:
    return [
        {
            "row": each.detector,
            "name": each.id,
            "title": each.title,
            "role": MEASUREMENT,
            "seed": each.seed,
            "teacher": each.teacher,
            "measurement": {
                "kind": each.kind,
                "detector": each.detector,
                "options": each.options,
                "distillers": [use.model_dump(mode="json") for use in each.distillers],
            },
        }
        for each in planned.measurements
    ]
