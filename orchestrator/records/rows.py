"""Single rows as several units of work need them, within a session."""

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from orchestrator.machine import TrialState
from orchestrator.records.errors import NoSuchStudy
from orchestrator.records.schema import Attempt, Study, Trial


def study_row(session: Session, study_id: int, lock: bool = False) -> Study:
    study = session.get(Study, study_id, with_for_update=lock or None)
    if study is None:
        raise NoSuchStudy(f"there is no study {study_id}")
    return study


def trial_rows(session: Session, study_id: int) -> dict[str, Trial]:
    return {trial.name: trial for trial in session.scalars(select(Trial).where(Trial.study_id == study_id).order_by(Trial.position))}


def live_attempt(session: Session, study_id: int) -> Attempt | None:
    return session.scalar(select(Attempt).where(Attempt.study_id == study_id, Attempt.ended.is_(None)))


def finished_trials(session: Session, keys: Iterable[str]) -> dict[str, Trial]:
    """By key the newest finished trial whose checkpoint is still there."""
    found: dict[str, Trial] = {}
    wanted = sorted(keys)
    for start in range(0, len(wanted), 500):  # a statement has room for so many values in every database
        query = (
            select(Trial)
            .where(Trial.key.in_(wanted[start : start + 500]), Trial.state == TrialState.FINISHED)
            .order_by(Trial.finished.desc())
        )
        for trial in session.scalars(query):
            if trial.key and trial.key not in found and trial.checkpoint and Path(trial.checkpoint).is_file():
                found[trial.key] = trial
    return found
