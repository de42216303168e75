"""A submission becomes a queued study with its arms, trials and measurements."""

from sqlalchemy.orm import Session

from orchestrator.machine import StudyState
from orchestrator.records.growth import add_trials
from orchestrator.records.schema import Event, Study
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
        searching=bool(submission.presentation.searches),
        counts={},
        created=now,
    )
    session.add(study)
    session.flush()
    study.counts = {state.value: count for state, count in add_trials(session, study.id, submission.expansion).items()}
    session.add(Event(study_id=study.id, kind="study", data={"state": StudyState.QUEUED, "reason": None}, time=now))
    return study
