"""From the store's rows to answers, and from its refusals to problems."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from api.access.callers import refuse_others
from api.problems import ProblemError, conflict, invalid_study, not_found
from api.queue.schemas import Stay, TimelineAnswer
from api.studies.schemas import (
    PlanAnswer,
    PlannedMeasurementAnswer,
    PlannedTrialAnswer,
    Sign,
    StudyAnswer,
    StudyDetail,
    StudyPage,
    TrialAnswer,
    TrialPage,
)
from api.times import at, maybe_at
from orchestrator.access.audit import Audit
from orchestrator.access.schema import Scope
from orchestrator.access.tokens import Holder
from orchestrator.estimates import Job
from orchestrator.machine import IllegalMove, TrialState
from orchestrator.operators import missing_operators
from orchestrator.plan import Plan, plan
from orchestrator.records.errors import IdempotencyMismatch, NoSuchStudy
from orchestrator.records.schema import Event, Study, Trial
from orchestrator.records.store import Store
from orchestrator.reporting.build import build
from orchestrator.reporting.links import run_page
from orchestrator.reporting.rendering import Format, render
from orchestrator.reporting.timeline import stays
from orchestrator.schedules.telling import table_notes
from orchestrator.settings import Settings
from studies.costs import EFFICIENCY
from studies.expand import PlannedTrial
from studies.planned_measures import PlannedMeasurement
from studies.presentation import Searched
from studies.problems import Problem
from studies.submission import Submission

HIGHEST_OF_ALL = 10  # priority that whoever may submit may give


class Studies:
    """What can be done with studies. Every method raises ProblemError where it cannot."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.audit = Audit(store)

    def submit(self, submission: Submission, idempotency_key: str | None, holder: Holder, priority: int = 0) -> StudyDetail:
        """The study that was made, now or by an earlier request with the same key."""
        _refuse_urgency(holder, priority)
        if without := _without_operators(submission):
            raise invalid_study([Problem("resources.gpus", without)])
        try:
            study, made = self.store.create_study(submission, idempotency_key, holder.owner, priority)
        except IdempotencyMismatch as error:
            raise conflict("idempotency-key-reused", str(error), "Idempotency-Key") from None
        if made:
            self.audit.note(holder, "study.submit", f"study {study.id}", name=study.name)
        return self._detail(study)

    def plan(self, submission: Submission) -> PlanAnswer:
        """What would run."""
        found = plan(submission, self.store)
        trials = [
            PlannedTrialAnswer(
                **_job(step, step.trial, found),
                title=f"{step.trial.title} · seed {step.trial.seed}",
                role=step.trial.role,
                evaluates=step.evaluates,
            )
            for step in found.steps
        ]
        measurements = [
            PlannedMeasurementAnswer(
                **_job(step, step.measurement, found),
                title=step.measurement.title,
                kind=step.measurement.kind,
                detector=step.measurement.detector,
            )
            for step in found.measurements
        ]
        return PlanAnswer(
            **sums(found),
            name=submission.spec.name,
            trials=trials,
            to_run=found.to_run,
            reused=len(trials) - found.to_run,
            measurements=measurements,
            device=found.device,
            efficiency=EFFICIENCY,
            warnings=[
                *filter(None, [_without_operators(submission)]),
                *submission.presentation.warnings,
                *map(_further, submission.presentation.searches),
            ],
        )

    def page(self, cursor: int | None, limit: int, owner: str | None = None) -> StudyPage:
        """Studies with a smaller id than `cursor`, newest first; with `owner`, theirs alone."""
        studies = self.store.studies(cursor, limit + 1, owner)
        more, studies = len(studies) > limit, studies[:limit]
        counts = self.store.trial_counts(study.id for study in studies)
        return StudyPage(items=[self._answer(study, counts[study.id]) for study in studies], next=str(studies[-1].id) if more else None)

    def study(self, study_id: int) -> StudyDetail:
        """One study."""
        return self._detail(self.row(study_id))

    def row(self, study_id: int) -> Study:
        """The stored study."""
        try:
            return self.store.study(study_id)
        except NoSuchStudy:
            raise not_found("study", str(study_id)) from None

    def trials(self, study_id: int, cursor: int | None, limit: int, names: Sequence[str]) -> TrialPage:
        """Its trials (of these names, if any) behind the position `cursor`, teachers first, then its measurements."""
        study = self.row(study_id)
        trials = self.store.trial_page(study_id, cursor, limit + 1, names)
        more, trials = len(trials) > limit, trials[:limit]
        return TrialPage(items=[self._trial(study, trial) for trial in trials], next=str(trials[-1].position) if more else None)

    def table(self, study_id: int, form: Format) -> str:
        """Its table as text, from what is stored until now."""
        study = self.row(study_id)
        table = build(study, self.store.presentation(study_id), self.store.trials(study_id), self.settings.mlflow_ui)
        table = replace(table, notes=[*table.notes, *table_notes(self.store, study_id)])
        return render(table, form)

    def cancel(self, study_id: int, holder: Holder) -> StudyDetail:
        """Stop it, keeping its state."""
        return self._move(study_id, holder, "cancel", self.store.request_cancel)

    def resume(self, study_id: int, holder: Holder) -> StudyDetail:
        """Queue what is missing."""
        return self._move(study_id, holder, "resume", self.store.request_resume)

    def prioritize(self, study_id: int, priority: int, holder: Holder) -> StudyDetail:
        """Its priority in the queue."""
        _refuse_urgency(holder, priority)
        return self._set(study_id, holder, "priority", lambda: self.store.set_priority(study_id, priority), priority=priority)

    def pause(self, study_id: int, holder: Holder, paused: bool) -> StudyDetail:
        """Grant it no devices, or grant it some again."""

        def change() -> Study:
            if paused and (state := self.row(study_id).state).final:
                raise conflict("wrong-state", f"cannot pause a study that is {state}: it wants no devices")
            return self.store.set_paused(study_id, paused)

        return self._set(study_id, holder, "pause" if paused else "unpause", change)

    def _set(self, study_id: int, holder: Holder, what: str, change: Callable[[], Study], **detail: Any) -> StudyDetail:
        refuse_others(holder, self.row(study_id).owner, f"study {study_id}")
        study = change()
        self.audit.note(holder, f"study.{what}", f"study {study_id}", **detail)
        return self._detail(study)

    def timeline(self, study_id: int) -> TimelineAnswer:
        """When its trials had devices."""
        study, after, found = self.row(study_id), 0, list[Event]()
        while events := self.store.events(study_id, after):
            found += events
            after = events[-1].id
        items = [Stay(trial=s.trial, began=at(s.began), ended=maybe_at(s.ended), outcome=s.outcome) for s in stays(found)]
        return TimelineAnswer(study=study.id, name=study.name, items=items)

    def _move(self, study_id: int, holder: Holder, wish: str, request: Callable[[int], Study]) -> StudyDetail:
        refuse_others(holder, self.row(study_id).owner, f"study {study_id}")
        try:
            study = request(study_id)
        except IllegalMove as error:
            raise conflict("wrong-state", f"cannot {wish} a study that is {error.state}: {error.why}") from None
        self.audit.note(holder, f"study.{wish}", f"study {study_id}")
        return self._detail(study)

    def news(self, study_id: int, after: int) -> tuple[list[Event], bool]:
        """Events after `after`, and whether the study was at rest before they were read."""
        at_rest = self.row(study_id).state.final
        return self.store.events(study_id, after), at_rest

    def _detail(self, study: Study) -> StudyDetail:
        answer = self._answer(study, self.store.trial_counts([study.id])[study.id])
        attempts, place = len(self.store.attempts(study.id)), self.store.place(study.id)
        return StudyDetail(**answer.model_dump(), attempts=attempts, waits=place.reason if place else None, spec=study.spec)

    def _answer(self, study: Study, counts: Counter[TrialState]) -> StudyAnswer:
        return StudyAnswer(
            id=study.id,
            name=study.name,
            owner=study.owner,
            state=study.state,
            at_rest=study.state.final,
            reason=study.reason,
            priority=study.priority,
            paused=study.paused,
            created=at(study.created),
            started=maybe_at(study.started),
            finished=maybe_at(study.finished),
            trials={state: counts[state] for state in TrialState if counts[state]},
            mlflow=run_page(self.settings.mlflow_ui, study.experiment, study.run),
        )

    def _trial(self, study: Study, trial: Trial) -> TrialAnswer:
        return TrialAnswer(
            name=trial.name,
            title=trial.title,
            role=trial.role,
            seed=trial.seed,
            teacher=trial.teacher,
            measures=trial.measurement["detector"] if trial.measurement else None,
            state=trial.state,
            reason=trial.reason,
            failure=trial.failure,
            epoch=trial.epoch,
            epochs=trial.epochs,
            latest=trial.latest,
            sign=_sign(trial),
            metrics=trial.metrics,
            seconds=trial.seconds,
            started=maybe_at(trial.started),
            finished=maybe_at(trial.finished),
            key=trial.key,
            checkpoint_sha256=trial.checkpoint_sha256,
            mlflow=run_page(self.settings.mlflow_ui, study.experiment, trial.run),
        )


def _refuse_urgency(holder: Holder, priority: int) -> None:
    """Raises ProblemError 403."""
    if priority > HIGHEST_OF_ALL and not holder.scope.holds(Scope.ADMIN):
        raise ProblemError(403, "too-urgent", "Not allowed", f"a priority above {HIGHEST_OF_ALL} is an administrator's to give")


def _job(job: Job, planned: PlannedTrial | PlannedMeasurement, of: Plan) -> dict[str, Any]:
    """The fields of PlannedJobAnswer but the title."""
    return {
        "name": planned.id,
        "seed": planned.seed,
        "teacher": planned.teacher,
        "key": job.key,
        "reused": job.reuses,
        "seconds": job.seconds,
        "basis": job.basis,
        "gpu_hours": job.gpu_hours if of.device == "gpu" else None,
    }


def _sign(trial: Trial) -> Sign | None:
    """Of the epoch under way."""
    if trial.state != TrialState.RUNNING or trial.sign is None or trial.sign["epoch"] <= trial.epoch:
        return None
    return Sign.model_validate(trial.sign | {"time": at(trial.sign["time"])})


def sums(plan: Plan) -> dict[str, Any]:
    """The fields of PlanSums."""
    return {
        "to_train": plan.to_train,
        "to_evaluate": plan.to_evaluate,
        "to_measure": plan.to_measure,
        "measured": plan.based_on("measured"),
        "estimated": plan.based_on("estimated"),
        "unknown": plan.unknown,
        "device_seconds": plan.device_seconds,
        "gpu_hours": plan.gpu_hours,
    }


def event_data(event: Event) -> dict[str, Any]:
    """An event as it is streamed: what happened, and when."""
    return {**event.data, "time": at(event.time).isoformat()}


def _without_operators(submission: Submission) -> str | None:
    """Why the study's trials would be refused at their start, where this machine is the one that would run them on its GPU."""
    return missing_operators() if submission.spec.resources.gpus else None


def _further(search: Searched) -> str:
    """What a plan cannot list, as it is drawn while the study runs."""
    seeds = f"{len(search.seeds)} seed{'s' * (len(search.seeds) > 1)}"
    return (
        f"of {search.title} {search.planned} combinations are drawn while the study runs and trained with {seeds} each; "
        f"then the best with {len(search.confirm)} fresh ones"
    )
