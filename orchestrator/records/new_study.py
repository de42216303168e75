"""A submission becomes a queued study with its arms, trials and measurements."""

from sqlalchemy.orm import Session

from orchestrator.machine import StudyState, TrialState
from orchestrator.records.schema import MEASUREMENT, Arm, Event, Study, Trial
from studies.expand import Expansion
from studies.submission import Submission


def add_study(session: Session, submission: Submission, now: int, idempotency_key: str | None = None, owner: str | None = None) -> Study:
    """A queued study with its arms and trials, as part of the transaction of `session`."""
    study = Study(
        name=submission.spec.name,
        owner=owner,
        spec=submission.spec.model_dump(mode="json"),
        presentation=submission.presentation.model_dump(mode="json"),
        idempotency_key=idempotency_key,
        state=StudyState.QUEUED,
        created=now,
    )
    session.add(study)
    session.flush()
    _add_trials(session, study, submission.expansion)
    session.add(Event(study_id=study.id, kind="study", data={"state": StudyState.QUEUED, "reason": None}, time=now))
    return study


def _add_trials(session: Session, study: Study, expansion: Expansion) -> None:
    used = {trial.row for trial in expansion.trials}  # a row whose trials are all those of another has none of its own
    weights = {trial.row: trial.weights for trial in expansion.trials}
    arms = {
        row.id: Arm(
            study_id=study.id,
            position=position,
            name=row.id,
            title=row.title,
            role=row.role,
            detail={
                "network": row.network.model_dump(mode="json"),
                "schedule": row.schedule.model_dump(mode="json"),
                "distillers": [use.model_dump(mode="json") for use in row.distillers],
                "teacher": row.teacher,
                "weights": weights[row.id],
                "values": dict(row.values),
            },
        )
        for position, row in enumerate(row for row in expansion.rows if row.id in used)
    }
    session.add_all(arms.values())
    session.flush()
    for position, trial in enumerate(expansion.trials):
        state = TrialState.WAITING if trial.teacher else TrialState.READY
        session.add(
            Trial(
                study_id=study.id,
                arm_id=arms[trial.row].id,
                position=position,
                name=trial.id,
                title=f"{trial.title} · seed {trial.seed}",
                role=trial.role,
                seed=trial.seed,
                teacher=trial.teacher,
                state=state,
            )
        )
    _add_measurements(session, study, expansion, arms)
    session.flush()


def _add_measurements(session: Session, study: Study, expansion: Expansion, arms: dict[str, Arm]) -> None:
    """The measurements behind the trainings, each with the arm of the training that it measures."""
    row_of = {trial.id: trial.row for trial in expansion.trials}
    for position, planned in enumerate(expansion.measurements, start=len(expansion.trials)):
        content = {
            "kind": planned.kind,
            "detector": planned.detector,
            "options": planned.options,
            "distillers": [use.model_dump(mode="json") for use in planned.distillers],
        }
        session.add(
            Trial(
                study_id=study.id,
                arm_id=arms[row_of[planned.detector]].id,
                position=position,
                name=planned.id,
                title=planned.title,
                role=MEASUREMENT,
                seed=planned.seed,
                teacher=planned.teacher,
                measurement=content,
                state=TrialState.WAITING,
            )
        )
