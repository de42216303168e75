"""What is asked of studies, their trials and results. Rows handed out are detached copies."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, defer

from orchestrator.machine import OPEN, StudyState, TrialState
from orchestrator.records.database import Database
from orchestrator.records.errors import NoSuchStudy
from orchestrator.records.patience import patient
from orchestrator.records.rows import finished_trials, live_attempt, served, study_row, trial_row
from orchestrator.records.schema import MEASUREMENT, Arm, Attempt, Dataset, DeviceGrant, Event, Point, Study, Suggestion, Trial
from studies.presentation import Presentation, Tried


@dataclass(frozen=True)
class Queued:
    """A study that waits for a driver. ended: when its last attempt did. granted: it has devices. looks: it may be done without any, for
    nobody has looked yet, an equal of a trial of it has finished, or all have ended, so that it is to be concluded or its search has to say
    what comes next."""

    study_id: int
    stalls: int
    ended: int | None
    granted: bool = False
    looks: bool = False


def _with_tried(presentation: Presentation, session: Session, study_id: int) -> Presentation:
    """With what the searches have tried by now."""
    tried: dict[str, list[Tried]] = {}
    for row in session.scalars(select(Suggestion).where(Suggestion.study_id == study_id).order_by(Suggestion.number)):
        goals = tuple(row.goals or ())
        each = Tried(number=row.number, values=row.values, trials=tuple(row.trials), outcome=row.outcome, goals=goals)
        tried.setdefault(row.arm, []).append(each)
    searches = tuple(search.model_copy(update={"tried": tuple(tried.get(search.arm, ()))}) for search in presentation.searches)
    return presentation.model_copy(update={"searches": searches})


class Queries(Database):
    """Reads that change nothing."""

    @patient
    def study(self, study_id: int) -> Study:
        """Raises NoSuchStudy."""
        with self._reads() as session:
            return study_row(session, study_id)

    def presentation(self, study_id: int) -> Presentation:
        """How the study's table is laid out, as it was frozen with it. Raises NoSuchStudy."""
        with self._reads() as session:
            found = Presentation.model_validate(study_row(session, study_id).presentation)
            return _with_tried(found, session, study_id) if found.searches else found

    def studies(self, cursor: int | None = None, limit: int = 50, owner: str | None = None) -> list[Study]:
        """Newest first; `cursor`: only those with a smaller id (the last id of the page before); `owner`: only theirs."""
        query = select(Study).order_by(Study.id.desc()).limit(limit)
        if owner is not None:
            query = query.where(Study.owner == owner)
        with self._reads() as session:
            return list(session.scalars(query if cursor is None else query.where(Study.id < cursor)))

    @patient
    def arms(self, study_id: int) -> list[Arm]:
        """Rows of the table in their order, teachers first. Raises NoSuchStudy."""
        with self._reads() as session:
            study_row(session, study_id)
            return list(session.scalars(select(Arm).where(Arm.study_id == study_id).order_by(Arm.position)))

    def latest_studies_of_tables(self) -> list[Study]:
        """The newest finished study of each shipped table at each scale, oldest first."""
        table, scale = Study.presentation["table"].as_string(), Study.spec["scale"].as_string()
        newest = select(func.max(Study.id)).where(Study.state == StudyState.FINISHED, table.is_not(None)).group_by(table, scale)
        with self._reads() as session:
            return list(session.scalars(select(Study).where(Study.id.in_(newest)).order_by(Study.id)))

    def trial_counts(self, study_ids: Iterable[int]) -> dict[int, Counter[TrialState]]:
        """How many trainings of each study are in which state."""
        counts: dict[int, Counter[TrialState]] = {study_id: Counter() for study_id in study_ids}
        trainings = select(Trial.study_id, Trial.state, func.count()).where(Trial.study_id.in_(counts), Trial.role != MEASUREMENT)
        query = trainings.group_by(Trial.study_id, Trial.state)
        with self._reads() as session:
            for study_id, state, count in session.execute(query):
                counts[study_id][TrialState(state)] = count
        return counts

    def points(self, study_id: int, trial: str | None = None) -> list[Point]:
        """Metric points of a study, or of its trial of that name, by trial, epoch and name."""
        query = select(Point).join(Trial).where(Trial.study_id == study_id).order_by(Trial.position, Point.epoch, Point.name)
        with self._reads() as session:
            study_row(session, study_id)
            return list(session.scalars(query if trial is None else query.where(Trial.name == trial)))

    def epochs_of(self, study_id: int, metric: str) -> dict[str, dict[int, float]]:
        """A metric by epoch of every training that has it, by the trial's name."""
        found: dict[str, dict[int, float]] = {}
        query = select(Trial.name, Point.epoch, Point.value).join(Trial).where(Trial.study_id == study_id, Point.name == metric)
        with self._reads() as session:
            for name, epoch, value in session.execute(query.order_by(Trial.position, Point.epoch)):
                found.setdefault(name, {})[epoch] = value
        return found

    def attempts(self, study_id: int) -> list[Attempt]:
        """Oldest first."""
        with self._reads() as session:
            return list(session.scalars(select(Attempt).where(Attempt.study_id == study_id).order_by(Attempt.number)))

    def events(self, study_id: int, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events with an id greater than `after`, oldest first. Raises NoSuchStudy."""
        query = select(Event).where(Event.study_id == study_id, Event.id > after).order_by(Event.id).limit(limit)
        with self._reads() as session:
            study_row(session, study_id)
            return list(session.scalars(query))

    def finished_trials(self, keys: Iterable[str]) -> dict[str, Trial]:
        """By key the newest finished trial whose checkpoint is still there; keys without one are left out."""
        with self._reads() as session:
            return finished_trials(session, keys, self.files)

    @patient
    def dataset_digest(self, name: str) -> str | None:
        """Digest of a dataset that was made here, else None."""
        with self._reads() as session:
            return session.scalar(select(Dataset.digest).where(Dataset.name == name))

    # --- trials

    def trials(self, study_id: int) -> list[Trial]:
        """All trials, trainings before measurements and each behind those that it needs. Raises NoSuchStudy."""
        with self._reads() as session:
            study_row(session, study_id)
            return list(session.scalars(select(Trial).where(Trial.study_id == study_id).order_by(Trial.position)))

    def trial_page(self, study_id: int, cursor: int | None = None, limit: int = 200, names: Sequence[str] = ()) -> list[Trial]:
        """Some of `trials`; `cursor`: only those behind this position (that of the last one of the page before). names: only these, if any.
        Raises NoSuchStudy."""
        query = select(Trial).where(Trial.study_id == study_id).order_by(Trial.position).limit(limit)
        if names:
            query = query.where(Trial.name.in_(names))
        with self._reads() as session:
            study_row(session, study_id)
            return list(session.scalars(query if cursor is None else query.where(Trial.position > cursor)))

    @patient
    def trial(self, study_id: int, name: str) -> Trial | None:
        """The study's trial of that name."""
        with self._reads() as session:
            return trial_row(session, study_id, name)

    @patient
    def ready_trials(self, study_id: int, after: int = -1, limit: int = 64, known: bool = True) -> list[Trial]:
        """The first trials behind a position that can start, in the study's order. known: with those that were looked at before."""
        ready = select(Trial).where(Trial.study_id == study_id, Trial.state == TrialState.READY, Trial.position > after)
        ready = ready if known else ready.where(Trial.key.is_(None))
        with self._reads() as session:
            return list(session.scalars(ready.order_by(Trial.position).limit(limit)))

    @patient
    def counts(self, study_id: int) -> Counter[TrialState]:
        """How many of a study's trials, measurements among them, are in which state. Raises NoSuchStudy."""
        with self._reads() as session:
            counts = session.scalar(select(Study.counts).where(Study.id == study_id))
        if counts is None:
            raise NoSuchStudy(f"there is no study {study_id}")
        return Counter({TrialState(state): count for state, count in counts.items()})

    def history(self, dataset: str, scale: str, limit: int = 500, measurements: bool = False) -> list[Trial]:
        """The newest finished trainings (or measurements) on a dataset at a scale, to estimate from."""
        alike = select(Study.id).where(Study.spec["dataset"].as_string() == dataset, Study.spec["scale"].as_string() == scale)
        role = Trial.role == MEASUREMENT if measurements else Trial.role != MEASUREMENT
        query = select(Trial).where(Trial.state == TrialState.FINISHED, role, Trial.study_id.in_(alike))
        with self._reads() as session:
            return list(session.scalars(query.order_by(Trial.finished.desc()).limit(limit)))

    # --- attempts, for the service

    def driven_studies(self) -> list[tuple[Study, Attempt]]:
        """Studies with an attempt whose end is not recorded yet, oldest first; without their specs."""
        query = select(Study, Attempt).join(Attempt, Attempt.study_id == Study.id).where(Attempt.ended.is_(None))
        with self._reads() as session:
            return [(study, attempt) for study, attempt in session.execute(query.order_by(Study.id).options(defer(Study.spec)))]

    def attempt_of(self, submission: str) -> tuple[int, int] | None:
        """The study and the number of the live attempt whose driver has this submission id."""
        with self._reads() as session:
            live = session.execute(
                select(Attempt.study_id, Attempt.number).where(Attempt.ended.is_(None), Attempt.submission == submission)
            ).first()
        return (live.study_id, live.number) if live else None

    def queued_studies(self) -> list[Queued]:
        """Studies that wait for a driver, those with devices first, then oldest first."""
        ended = select(func.max(Attempt.ended)).where(Attempt.study_id == Study.id).scalar_subquery()
        live = select(Attempt.number).where(Attempt.study_id == Study.id, Attempt.ended.is_(None)).exists()
        granted = select(DeviceGrant.trial_id).where(DeviceGrant.study_id == Study.id).exists()
        new = ~select(Attempt.number).where(Attempt.study_id == Study.id).exists()
        ready = select(Trial.id).where(Trial.study_id == Study.id, Trial.state == TrialState.READY, served())
        open_ = select(Trial.id).where(Trial.study_id == Study.id, Trial.state.in_(OPEN)).exists()
        looks = or_(new, ready.exists(), ~open_)
        query = select(Study.id, Study.stalls, ended, granted, looks).where(Study.state == StudyState.QUEUED, ~live)
        with self._reads() as session:
            found = [Queued(*row) for row in session.execute(query.order_by(Study.id))]
        return sorted(found, key=lambda study: not study.granted)

    def studies_with_devices(self) -> set[int]:
        """Those that a trial was granted to."""
        with self._reads() as session:
            return set(session.scalars(select(DeviceGrant.study_id).distinct()))

    def live_attempt(self, study_id: int) -> Attempt | None:
        """The attempt whose end is not recorded yet."""
        with self._reads() as session:
            return live_attempt(session, study_id)
