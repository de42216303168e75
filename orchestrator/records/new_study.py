"""A submission becomes a queued study with its arms, trials and measurements. Written in bulk: ten thousand trials take about a second."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, insert, or_, select
from sqlalchemy.orm import Session, aliased

from orchestrator.machine import StudyState, TrialState
from orchestrator.records.schema import MEASUREMENT, Arm, Base, Event, Need, Study, Trial, table_of
from studies.expand import Expansion
from studies.submission import Submission

_NAMES = {"arm", "needs"}  # what a trial is written without


@dataclass(frozen=True)
class Rows:
    """A study to be written, made without a database so that its lock is held for the writing alone. Arms and trials by column; a
    trial's `arm` and `needs` are names."""

    name: str
    spec: dict[str, Any]
    presentation: dict[str, Any]
    arms: list[dict[str, Any]]
    trials: list[dict[str, Any]]


def rows_of(submission: Submission) -> Rows:
    """What a submission becomes."""
    trials = _trainings(submission.expansion) + _measurements(submission.expansion)
    for position, trial in enumerate(trials):
        state = TrialState.WAITING if trial["needs"] else TrialState.READY
        trial |= {"position": position, "state": state, "lacking": len(trial["needs"]), "losses": 0, "epoch": 0}
    return Rows(
        name=submission.spec.name,
        spec=submission.spec.model_dump(mode="json"),
        presentation=submission.presentation.model_dump(mode="json"),
        arms=_arms(submission.expansion),
        trials=trials,
    )


def add_study(session: Session, rows: Rows, now: int, idempotency_key: str | None = None, owner: str | None = None) -> Study:
    """A queued study with its arms and trials, as part of the transaction of `session`."""
    study = Study(
        name=rows.name,
        owner=owner,
        spec=rows.spec,
        presentation=rows.presentation,
        idempotency_key=idempotency_key,
        state=StudyState.QUEUED,
        counts=dict(Counter(trial["state"].value for trial in rows.trials)),
        created=now,
    )
    session.add(study)
    session.flush()
    _insert(session, Arm, [{**arm, "study_id": study.id} for arm in rows.arms])
    _add_trials(session, study.id, rows.trials)
    session.add(Event(study_id=study.id, kind="study", data={"state": StudyState.QUEUED, "reason": None}, time=now))
    return study


def _add_trials(session: Session, study_id: int, trials: list[dict[str, Any]]) -> None:
    """Trainings, behind them measurements, and what each needs."""
    arms = dict(session.execute(select(Arm.name, Arm.id).where(Arm.study_id == study_id)).tuples().all())
    written = [
        {name: trial[name] for name in trial.keys() - _NAMES} | {"study_id": study_id, "arm_id": arms[trial["arm"]]} for trial in trials
    ]
    for measured in (False, True):  # statements of as many columns as each has
        _insert(session, Trial, [trial for trial in written if (trial["role"] == MEASUREMENT) == measured])
    _add_needs(session, study_id)


def _add_needs(session: Session, study_id: int) -> None:
    """By the names that the trials were written with: each needs its teacher, and a measurement what it measures."""
    measured = Trial.measurement["detector"].as_string()
    also_measured = (Trial.role == MEASUREMENT, or_(Trial.teacher.is_(None), Trial.teacher != measured))
    for name, which in ((Trial.teacher, ()), (measured, also_measured)):
        needed = aliased(Trial)
        both = select(needed.id, Trial.id).join(needed, and_(needed.study_id == Trial.study_id, needed.name == name))
        session.execute(insert(Need).from_select(["needed_id", "trial_id"], both.where(Trial.study_id == study_id, *which)))


def _insert(session: Session, model: type[Base], rows: list[dict[str, Any]]) -> None:
    if rows:
        session.execute(insert(table_of(model)), rows)


def _arms(expansion: Expansion) -> list[dict[str, Any]]:
    used = {trial.row for trial in expansion.trials}  # a row whose trials are all those of another has none of its own
    weights = {trial.row: trial.weights for trial in expansion.trials}
    return [
        {
            "position": position,
            "name": row.id,
            "title": row.title,
            "role": row.role,
            "detail": {
                "network": row.network.model_dump(mode="json"),
                "schedule": row.schedule.model_dump(mode="json"),
                "distillers": [use.model_dump(mode="json") for use in row.distillers],
                "teacher": row.teacher,
                "weights": weights[row.id],
                "values": dict(row.values),
            },
        }
        for position, row in enumerate(row for row in expansion.rows if row.id in used)
    ]


def _trainings(expansion: Expansion) -> list[dict[str, Any]]:
    return [
        {
            "arm": trial.row,
            "name": trial.id,
            "title": f"{trial.title} · seed {trial.seed}",
            "role": trial.role,
            "seed": trial.seed,
            "teacher": trial.teacher,
            "needs": {trial.teacher} if trial.teacher else set(),
        }
        for trial in expansion.trials
    ]


def _measurements(expansion: Expansion) -> list[dict[str, Any]]:
    """Each with the arm of the training that it measures."""
    row_of = {trial.id: trial.row for trial in expansion.trials}
    return [
        {
            "arm": row_of[planned.detector],
            "name": planned.id,
            "title": planned.title,
            "role": MEASUREMENT,
            "seed": planned.seed,
            "teacher": planned.teacher,
            "measurement": {
                "kind": planned.kind,
                "detector": planned.detector,
                "options": planned.options,
                "distillers": [use.model_dump(mode="json") for use in planned.distillers],
            },
            "needs": {planned.detector, planned.teacher} - {None},
        }
        for planned in expansion.measurements
    ]
