"""A submission becomes a queued study with its arms, trials and measurements. Written in bulk: ten thousand trials take about a second."""

from collections import Counter
from typing import Any

from sqlalchemy import Select, insert, select
from sqlalchemy.orm import Session

from orchestrator.machine import StudyState, TrialState
from orchestrator.records.schema import MEASUREMENT, Arm, Event, Need, Study, Trial
from studies.expand import Expansion
from studies.submission import Submission


def add_study(
    session: Session, submission: Submission, now: int, idempotency_key: str | None = None, owner: str | None = None, priority: int = 0
) -> Study:
    """A queued study with its arms and trials, as part of the transaction of `session`."""
    study = Study(
        name=submission.spec.name,
        owner=owner,
        priority=priority,
        spec=submission.spec.model_dump(mode="json"),
        presentation=submission.presentation.model_dump(mode="json"),
        idempotency_key=idempotency_key,
        state=StudyState.QUEUED,
        counts={},
        created=now,
    )
    session.add(study)
    session.flush()
    _add_arms(session, study.id, submission.expansion)
    study.counts = _add_trials(session, study.id, submission.expansion)
    session.add(Event(study_id=study.id, kind="study", data={"state": StudyState.QUEUED, "reason": None}, time=now))
    return study


def _add_arms(session: Session, study_id: int, expansion: Expansion) -> None:
    used = {trial.row for trial in expansion.trials}  # a row whose trials are all those of another has none of its own
    origins = {trial.row: {"weights": trial.weights, "init": trial.init} for trial in expansion.trials}
    arms = [
        {
            "study_id": study_id,
            "position": position,
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
        for position, row in enumerate(row for row in expansion.rows if row.id in used)
    ]
    if arms:
        session.execute(insert(Arm), arms)


def _add_trials(session: Session, study_id: int, expansion: Expansion) -> dict[str, int]:
    """Trainings, behind them measurements, and what each needs; how many are in which state."""
    arms = _ids(session, select(Arm.name, Arm.id).where(Arm.study_id == study_id))
    trials = _trainings(expansion, arms) + _measurements(expansion, arms)
    for position, trial in enumerate(trials):
        needs = _needs(trial)
        state = TrialState.WAITING if needs else TrialState.READY
        trial |= {"study_id": study_id, "position": position, "state": state, "lacking": len(needs), "losses": 0, "epoch": 0}
    if not trials:
        return {}
    session.execute(insert(Trial), trials)
    ids = _ids(session, select(Trial.name, Trial.id).where(Trial.study_id == study_id))
    needed = [{"trial_id": ids[trial["name"]], "needed_id": ids[name]} for trial in trials for name in _needs(trial)]
    if needed:
        session.execute(insert(Need), needed)
    return dict(Counter(trial["state"].value for trial in trials))


def _ids(session: Session, query: Select[str, int]) -> dict[str, int]:
    return {row[0]: row[1] for row in session.execute(query)}


def _needs(trial: dict[str, Any]) -> set[str]:
    """Names of the trials whose results it needs."""
    measured = trial["measurement"]["detector"] if trial["measurement"] else None
    return {name for name in (measured, trial["teacher"]) if name is not None}


def _trainings(expansion: Expansion, arms: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "arm_id": arms[trial.row],
            "name": trial.id,
            "title": f"{trial.title} · seed {trial.seed}",
            "role": trial.role,
            "seed": trial.seed,
            "teacher": trial.teacher,
            "measurement": None,
        }
        for trial in expansion.trials
    ]


def _measurements(expansion: Expansion, arms: dict[str, int]) -> list[dict[str, Any]]:
    """Each with the arm of the training that it measures."""
    row_of = {trial.id: trial.row for trial in expansion.trials}
    return [
        {
            "arm_id": arms[row_of[planned.detector]],
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
        }
        for planned in expansion.measurements
    ]
