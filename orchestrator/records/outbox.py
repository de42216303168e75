"""What MLflow has yet to be told, and which of its runs is whose."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from orchestrator.records.database import Database
from orchestrator.records.schema import Arm, Outbox, Point, Study, Trial

MOST_TRIES = 5  # a row that failed so often for a reason of its own is set aside


@dataclass(frozen=True)
class SetAside:
    """Rows of a study that could not be sent. trouble: why, of one of them."""

    study_id: int
    rows: int
    trouble: str


@dataclass(frozen=True)
class RunOwner:
    """Whose an MLflow run is. trial_id: None for a study's parent run. final: it has come to its end."""

    study_id: int
    trial_id: int | None
    final: bool


class OutboxRecords(Database):
    """The outbox and MLflow's ids."""

    def outbox(self, study_id: int | None = None, limit: int = 500) -> list[Outbox]:
        """What is yet to be sent (of a study), oldest first; without what was set aside."""
        waiting = select(Outbox).where(Outbox.trouble.is_(None))
        if study_id is not None:
            waiting = waiting.where(Outbox.study_id == study_id)
        with self._reads() as session:
            return list(session.scalars(waiting.order_by(Outbox.id).limit(limit)))

    def studies_to_tell(self) -> list[int]:
        """Studies of which something is yet to be sent, the one that has waited longest first."""
        waiting = select(Outbox.study_id).where(Outbox.trouble.is_(None)).group_by(Outbox.study_id)
        with self._reads() as session:
            return list(session.scalars(waiting.order_by(func.min(Outbox.id))))

    def not_sent(self, ids: Sequence[int], trouble: str, last: bool) -> bool:
        """Sending rows failed for a reason of their own. True: they are set aside now, for `last` says so or they failed
        MOST_TRIES times."""
        with self._writes.begin() as session:
            rows = list(session.scalars(select(Outbox).where(Outbox.id.in_(ids))))
            for row in rows:
                row.tries += 1
            aside = last or any(row.tries >= MOST_TRIES for row in rows)
            for row in rows:
                row.trouble = trouble[:300] if aside else None
        return aside

    def set_aside(self) -> list[SetAside]:
        """What was set aside, by study."""
        query = select(Outbox.study_id, func.count(), func.max(Outbox.trouble)).where(Outbox.trouble.is_not(None))
        with self._reads() as session:
            found = session.execute(query.group_by(Outbox.study_id).order_by(Outbox.study_id))
            return [SetAside(study_id, count, trouble or "") for study_id, count, trouble in found]

    def send_again(self) -> int:
        """What was set aside is to be sent after all; how many rows these are."""
        with self._writes.begin() as session:
            aside = select(func.count()).select_from(Outbox).where(Outbox.trouble.is_not(None))
            count = session.scalar(aside) or 0
            session.execute(update(Outbox).where(Outbox.trouble.is_not(None)).values(trouble=None, tries=0))
        return count

    def sent(self, ids: Sequence[int]) -> None:
        """Takes rows out of the outbox."""
        with self._writes.begin() as session:
            session.execute(delete(Outbox).where(Outbox.id.in_(ids)))

    def trial_by_id(self, trial_id: int) -> Trial:
        with self._reads() as session:
            return session.get_one(Trial, trial_id)

    def arm_of(self, trial: Trial) -> str:
        """Name of the trial's arm."""
        with self._reads() as session:
            return session.get_one(Arm, trial.arm_id).name

    def points_of(self, trial_id: int, epochs: Sequence[int]) -> list[Point]:
        """The points of some epochs of a trial."""
        query = select(Point).where(Point.trial_id == trial_id, Point.epoch.in_(epochs)).order_by(Point.epoch, Point.name)
        with self._reads() as session:
            return list(session.scalars(query))

    def set_study_run(self, study_id: int, experiment: str, run: str) -> None:
        """MLflow's ids of a study."""
        with self._writes.begin() as session:
            session.execute(update(Study).where(Study.id == study_id).values(experiment=experiment, run=run))

    def set_trial_run(self, trial_id: int, run: str | None, key: str | None) -> bool:
        """MLflow's id of a trial; False and nothing where its key is another by now, for then the run is of what it trained before."""
        mine = update(Trial).where(Trial.id == trial_id, Trial.key.is_not_distinct_from(key)).values(run=run)
        with self._writes.begin() as session:
            written: int = session.execute(mine).rowcount  # type: ignore[attr-defined]
        return written > 0

    def tell_mlflow_again(self, study_id: int, trial_id: int | None) -> None:
        """Puts a study or a trial into the outbox as a whole, for whoever found MLflow telling something else."""
        with self._writes.begin() as session:
            session.add(Outbox(study_id=study_id, trial_id=trial_id, epoch=None, time=self.now()))

    def studies_with_run(self) -> list[Study]:
        """Studies that MLflow knows of."""
        with self._reads() as session:
            return list(session.scalars(select(Study).where(Study.run.is_not(None)).order_by(Study.id)))

    def owner_of_run(self, run: str) -> RunOwner | None:
        """The study or trial that an MLflow run belongs to."""
        with self._reads() as session:
            study = session.scalar(select(Study).where(Study.run == run))
            if study:
                return RunOwner(study.id, None, study.state.final)
            trial = session.scalar(select(Trial).where(Trial.run == run))
            return RunOwner(trial.study_id, trial.id, trial.state.final) if trial else None
