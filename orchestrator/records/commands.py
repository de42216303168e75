"""What people and the service ask of a study: make it, cancel it, resume it, open and end its attempts."""

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import undefer

from orchestrator import machine
from orchestrator.machine import StudyState
from orchestrator.records.errors import IdempotencyMismatch
from orchestrator.records.new_study import Rows, add_study, rows_of
from orchestrator.records.patience import patient
from orchestrator.records.queries import Queries
from orchestrator.records.schema import Attempt, Dataset, Study
from orchestrator.records.unit import Units
from studies.submission import Submission


class Commands(Queries, Units):
    """Units of work on a study, each one transaction."""

    def create_study(
        self, submission: Submission, idempotency_key: str | None = None, owner: str | None = None, priority: int = 0
    ) -> tuple[Study, bool]:
        """The stored study and whether it was made now; a known key gives the study it made. Raises IdempotencyMismatch."""
        rows = rows_of(submission)
        known = self._study_of_key(idempotency_key, rows)
        if known:
            return known, False
        try:
            with self._writes.begin() as session:
                study = add_study(session, rows, self.now(), idempotency_key, owner, priority)
        except IntegrityError:
            known = self._study_of_key(idempotency_key, rows)
            if known is None:
                raise
            return known, False
        return study, True

    def _study_of_key(self, key: str | None, rows: Rows) -> Study | None:
        if key is None:
            return None
        with self._reads() as session:
            study = session.scalar(select(Study).where(Study.idempotency_key == key).options(undefer(Study.presentation)))
        if study and (study.spec != rows.spec or study.presentation.get("document") != rows.presentation.get("document")):
            raise IdempotencyMismatch(f"this idempotency key made study {study.id} from another spec; use a new key")
        return study

    def request_cancel(self, study_id: int) -> Study:
        """The study, cancelled or cancelling. Raises NoSuchStudy, IllegalMove."""
        with self._unit(study_id) as unit:
            unit.advance(machine.CancelRequested())
        return self.study(study_id)

    def request_resume(self, study_id: int) -> Study:
        """The study, queued again. Raises NoSuchStudy, IllegalMove."""
        with self._unit(study_id) as unit:
            unit.advance(machine.ResumeRequested())
        return self.study(study_id)

    def new_attempt(self, study_id: int, submission: str | None = None) -> Attempt | None:
        """Opens the next attempt of a queued study; None when it is no longer queued or already has one.

        submission: Ray's id of the driver that is to take it [one that is still to be submitted].
        """
        with self._unit(study_id) as unit:
            if unit.study.state != StudyState.QUEUED or unit.attempt is not None:
                return None
            last = unit.session.scalar(select(func.max(Attempt.number)).where(Attempt.study_id == study_id)) or 0
            submission = submission or f"study-{study_id}-a{last + 1}"
            attempt = Attempt(study_id=study_id, number=last + 1, submission=submission, created=self.now())
            unit.session.add(attempt)
        return attempt

    def end_attempt(self, study_id: int, number: int, outcome: str, planned: bool = False) -> None:
        """Records that the job of an attempt is over. If its study is not, the attempt was lost (or stopped, when cancelling).

        planned: it was asked to end, so it is no loss; its driver, should it still be there, can write nothing more.
        """
        with self._unit(study_id) as unit:
            attempt = unit.session.get(Attempt, (study_id, number))
            if attempt is None or attempt.ended is not None:
                return
            attempt.ended, attempt.outcome = self.now(), outcome
            if not unit.study.state.final:
                unit.note(f"attempt {number} ended: {outcome}")
                unit.advance(machine.AttemptLost(outcome, planned))

    @patient
    def note(self, study_id: int, text: str) -> None:
        """An event in words, for those who watch the study."""
        with self._unit(study_id) as unit:
            unit.note(text)

    @patient
    def record_dataset(self, name: str, digest: str) -> None:
        with self._writes.begin() as session:
            session.merge(Dataset(name=name, digest=digest, time=self.now()))
