"""Trials join a study: all of them when it is made, and those that a search asks for while it runs. Ten thousand take about a second."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

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

    A trial's `row` names the arm of a training, or the training that a measurement measures; it is no column.
    """

    arms: tuple[Mapping[str, Any], ...]
    trials: tuple[Mapping[str, Any], ...]


def additions(planned: Planned) -> Additions:
    """What rows and trials become: trainings, behind them measurements."""
    return Additions(tuple(_arms(planned)), (*_trainings(planned), *_measurements(planned)))


def add_trials(session: Session, study_id: int, added: Additions) -> dict[TrialState, int]:
    """Adds arms, trials, and what each needs, behind all that the study has; how many are in which state.

    A measurement that the study has already is left out.
    """
    start = _behind(session, Arm, study_id)
    arms = [{**arm, "study_id": study_id, "position": position} for position, arm in enumerate(added.arms, start)]
    if arms:
        session.execute(insert(table_of(Arm)), arms)
    arm_ids = _ids(session, Arm, study_id)
    known = {name: (id, state, arm) for name, id, state, arm in _trials_of(session, study_id, added)}
    arm_of = {name: arm for name, (_, _, arm) in known.items()}
    trials: list[dict[str, Any]] = []
    for position, new in enumerate((each for each in added.trials if each["name"] not in known), _behind(session, Trial, study_id)):
        row = new["row"]
        arm = arm_of[row] if new["role"] == MEASUREMENT else arm_ids[row]
        arm_of[new["name"]] = arm
        place = {"study_id": study_id, "arm_id": arm, "position": position, "losses": 0, "epoch": 0}
        trials.append({name: value for name, value in new.items() if name != "row"} | place | _start(new, known))
    if not trials:
        return {}
    session.execute(insert(table_of(Trial)), trials)
    ids = _ids(session, Trial, study_id)
    needed = [{"trial_id": ids[trial["name"]], "needed_id": ids[name]} for trial in trials for name in _needs(trial)]
    if needed:
        session.execute(insert(table_of(Need)), needed)
    return dict(Counter(trial["state"] for trial in trials))


def _trials_of(session: Session, study_id: int, added: Additions) -> Iterable[tuple[str, int, TrialState, int]]:
    """Of the study's trials those that new ones need, or that are there already."""
    wanted = {name for trial in added.trials for name in _needs(trial)}
    wanted |= {trial["name"] for trial in added.trials if trial["role"] == MEASUREMENT}
    names = sorted(wanted - {trial["name"] for trial in added.trials if trial["role"] != MEASUREMENT})
    for start in range(0, len(names), 500):  # a statement has room for so many values in every database
        query = select(Trial.name, Trial.id, Trial.state, Trial.arm_id)
        yield from session.execute(query.where(Trial.study_id == study_id, Trial.name.in_(names[start : start + 500]))).tuples()


def _start(trial: Mapping[str, Any], known: Mapping[str, tuple[int, TrialState, int]]) -> dict[str, Any]:
    """A new trial's state: waiting for those that it needs, ready, or failed as one of them has."""
    needs = [(name, known[name][1] if name in known else TrialState.WAITING) for name in _needs(trial)]
    lacking = [name for name, state in needs if not state.good]
    broken = next((name for name, state in needs if state == TrialState.FAILED), None)
    if broken:
        return {"state": TrialState.FAILED, "lacking": len(lacking), "reason": f"it needs {broken}, which failed", "failure": "user"}
    return {"state": TrialState.WAITING if lacking else TrialState.READY, "lacking": len(lacking), "reason": None, "failure": None}


def _needs(trial: Mapping[str, Any]) -> list[str]:
    """Names of the trials whose results it needs."""
    measured = trial["measurement"]["detector"] if trial["measurement"] else None
    return sorted({name for name in (measured, trial["teacher"]) if name is not None})


def _ids(session: Session, table: type[Arm] | type[Trial], study_id: int) -> dict[str, int]:
    return dict(session.execute(select(table.name, table.id).where(table.study_id == study_id)).tuples().all())


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
