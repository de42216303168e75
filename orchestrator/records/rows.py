"""Single rows as several units of work need them, within a session."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, aliased

from orchestrator.machine import TrialState
from orchestrator.records.errors import NoSuchStudy
from orchestrator.records.schema import Attempt, Study, Trial
from orchestrator.storage.files import TrialFiles


def study_row(session: Session, study_id: int, lock: bool = False, options: Sequence[Any] = ()) -> Study:
    """Raises NoSuchStudy."""
    study = session.get(Study, study_id, with_for_update=lock or None, options=options)
    if study is None:
        raise NoSuchStudy(f"there is no study {study_id}")
    return study


def trial_row(session: Session, study_id: int, name: str) -> Trial | None:
    """A study's trial of that name."""
    return session.scalar(select(Trial).where(Trial.study_id == study_id, Trial.name == name))


def live_attempt(session: Session, study_id: int) -> Attempt | None:
    """The attempt whose end is not recorded yet."""
    return session.scalar(select(Attempt).where(Attempt.study_id == study_id, Attempt.ended.is_(None)))


def finished_trials(session: Session, keys: Iterable[str], files: TrialFiles) -> dict[str, Trial]:
    """By key the newest finished trial whose checkpoint is still there."""
    found: dict[str, Trial] = {}
    wanted = sorted(keys)
    for start in range(0, len(wanted), 500):  # a statement has room for so many values in every database
        query = select(Trial).where(Trial.key.in_(wanted[start : start + 500]), Trial.state == TrialState.FINISHED)
        trials = list(session.scalars(query.order_by(Trial.finished.desc())))
        there = files.present(trial.checkpoint for trial in trials if trial.checkpoint)
        for trial in trials:
            if trial.key and trial.key not in found and trial.checkpoint in there:
                found[trial.key] = trial
    return found


def served() -> ColumnElement[bool]:
    """Of rows of `trial`: an equal one has finished. Known only of those that a driver has looked at."""
    other = aliased(Trial)
    equal = other.key == Trial.key, other.folder == Trial.folder, other.id != Trial.id, other.state == TrialState.FINISHED
    return select(other.id).where(*equal).exists()
