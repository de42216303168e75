"""Single rows as several units of work need them, within a session.

What every event asks is built once: that costs more than asking.
"""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, and_, bindparam, select
from sqlalchemy.orm import Session, aliased, defer

from orchestrator.machine import TrialState
from orchestrator.records.errors import NoSuchStudy
from orchestrator.records.schema import Attempt, Study, Trial
from orchestrator.storage.files import TrialFiles

_LOCKED = (
    select(Study, Attempt.number)
    .outerjoin(Attempt, and_(Attempt.study_id == Study.id, Attempt.ended.is_(None)))
    .where(Study.id == bindparam("study_id"))
    .options(defer(Study.spec))  # large, and not needed where a study moves
    .with_for_update(of=Study)
)
_TRIAL = select(Trial).where(Trial.study_id == bindparam("study_id"), Trial.name == bindparam("name"))


def study_row(session: Session, study_id: int) -> Study:
    """Raises NoSuchStudy."""
    study = session.get(Study, study_id)
    if study is None:
        raise NoSuchStudy(f"there is no study {study_id}")
    return study


def locked_study(session: Session, study_id: int) -> tuple[Study, int | None]:
    """A study without its spec, which nobody else may change until the transaction ends, and the number of its live attempt. Raises
    NoSuchStudy."""
    found = session.execute(_LOCKED, {"study_id": study_id}).first()
    if found is None:
        raise NoSuchStudy(f"there is no study {study_id}")
    return found[0], found[1]


def trial_row(session: Session, study_id: int, name: str) -> Trial | None:
    """A study's trial of that name."""
    return session.scalar(_TRIAL, {"study_id": study_id, "name": name})


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
