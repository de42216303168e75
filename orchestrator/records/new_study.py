"""A submission becomes a queued study with its arms, trials and measurements."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from orchestrator.machine import StudyState
from orchestrator.records.growth import Additions, add_trials, additions
from orchestrator.records.schema import Event, Study
from studies.submission import Submission


@dataclass(frozen=True)
class Rows:
    """A study to be written, made without a database so that its lock is held for the writing alone.

    searching: whether values are drawn, and trials added, while it runs.
    """

    name: str
    spec: dict[str, Any]
    presentation: dict[str, Any]
    searching: bool
    trials: Additions


def rows_of(submission: Submission) -> Rows:
    """What a submission becomes."""
    return Rows(
        name=submission.spec.name,
        spec=submission.spec.model_dump(mode="json"),
        presentation=submission.presentation.model_dump(mode="json"),
        searching=bool(submission.presentation.searches),
        trials=additions(submission.expansion),
    )


def add_study(
    session: Session, rows: Rows, now: int, idempotency_key: str | None = None, owner: str | None = None, priority: int = 0
) -> Study:
    """A queued study with its arms and trials, as part of the transaction of `session`."""
    study = Study(
        name=rows.name,
        owner=owner,
        priority=priority,
        spec=rows.spec,
        presentation=rows.presentation,
        idempotency_key=idempotency_key,
        state=StudyState.QUEUED,
        searching=rows.searching,
        counts={},
        created=now,
    )
    session.add(study)
    session.flush()
    study.counts = {state.value: count for state, count in add_trials(session, study.id, rows.trials).items()}
    session.add(Event(study_id=study.id, kind="study", data={"state": StudyState.QUEUED, "reason": None}, time=now))
    return study
