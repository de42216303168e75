"""The end of a scheduled run: what was trained and why, and what moved since the run before; told on its study, in one transaction."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from orchestrator.machine import StudyState, TrialState
from orchestrator.records.schema import MEASUREMENT, Event, Outbox, Schedule, ScheduleRun, Study, Trial
from orchestrator.reporting.build import build
from orchestrator.reporting.table import Table
from orchestrator.schedules.compare import compare, results
from studies.presentation import Presentation


def settle(session: Session, schedule: Schedule, run: ScheduleRun, now: int) -> None:
    """Once for each end of the study: one that is resumed ends again, and is compared again."""
    study = session.get_one(Study, run.study_id, with_for_update=True)
    if not study.state.final or run.settled == study.finished:
        return
    before = _before(session, run)
    earlier = _trials(session, before) if before else []
    trials = _trials(session, study)
    run.settled, run.against, run.moved = study.finished, None, None
    notes = [f"schedule {schedule.id}: {what_was_trained(trials, earlier, bool(schedule.spec['force']))}"]
    if before and study.state == StudyState.FINISHED:
        moved = compare(results(_table(before, earlier)), results(_table(study, trials)))
        run.against, run.moved = before.id, [each.as_data() for each in moved]
        notes += [] if moved else [f"nothing moved more than its noise since study {before.id}"]
        for each in moved:
            told = f"{'worse' if each.worse else 'better'} than study {before.id}: {each.sentence()}"
            session.add(Event(study_id=study.id, kind="regression", data={"text": told, "against": before.id, **each.as_data()}, time=now))
    session.add_all(Event(study_id=study.id, kind="note", data={"text": text}, time=now) for text in notes)
    session.add(Outbox(study_id=study.id, trial_id=None, epoch=None, time=now))


def _before(session: Session, run: ScheduleRun) -> Study | None:
    """The study of the last run of the same schedule that is finished."""
    query = (
        select(Study)
        .join(ScheduleRun, ScheduleRun.study_id == Study.id)
        .where(ScheduleRun.schedule_id == run.schedule_id, ScheduleRun.due < run.due, Study.state == StudyState.FINISHED)
    )
    return session.scalar(query.order_by(ScheduleRun.due.desc()).limit(1))


def _table(study: Study, trials: Sequence[Trial]) -> Table:
    return build(study, Presentation.model_validate(study.presentation), trials)


def _trials(session: Session, study: Study) -> Sequence[Trial]:
    return session.scalars(select(Trial).where(Trial.study_id == study.id).order_by(Trial.position)).all()


def what_was_trained(trials: Sequence[Trial], before: Sequence[Trial], fresh: bool) -> str:
    """ "1 of 3 trials trained (its code changed: ld/seed-0), 2 reused: neither their code nor their data changed"."""
    trials = [trial for trial in trials if trial.role != MEASUREMENT]
    trained = [trial for trial in trials if trial.state == TrialState.FINISHED]
    reused = sum(trial.state == TrialState.CACHED for trial in trials)
    missing = len(trials) - len(trained) - reused
    if fresh:
        parts = [f"{len(trained)} of {len(trials)} trials trained, equal results or not: the schedule is fresh"]
    else:
        earlier = {trial.name: trial for trial in before}
        causes: dict[str, list[str]] = {}
        for trial in trained:
            causes.setdefault(cause(trial, earlier.get(trial.name)), []).append(trial.name)
        why = "; ".join(f"{told}: {', '.join(names)}" for told, names in causes.items())
        parts = [f"{len(trained)} of {len(trials)} trials trained" + (f" ({why})" if why else "")]
    if reused:
        parts.append(f"{reused} reused: neither code nor data of these changed")
    if missing:
        parts.append(f"{missing} without a result")
    return ", ".join(parts)


def cause(trial: Trial, before: Trial | None) -> str:
    """Why a trial was trained and not reused, as far as the run before tells."""
    if before is None or not before.state.good:
        return "no result in the run before"
    if trial.dataset_digest != before.dataset_digest:
        return "its data changed"
    if (trial.environment or {}).get("code_version") != (before.environment or {}).get("code_version"):
        return "its code changed"
    teacher, taught = ((each.spec or {}).get("teacher") or {} for each in (trial, before))
    if teacher.get("sha256") != taught.get("sha256"):
        return "its teacher changed"
    return "what it needs was gone" if trial.key == before.key else "its recipe changed"
