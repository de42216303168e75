"""What MLflow has yet to be told, and which of its runs is whose."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select, update

from orchestrator.records.database import Database
from orchestrator.records.schema import Arm, Outbox, Point, Study, Trial


@dataclass(frozen=True)
class RunOwner:
    """Whose an MLflow run is. trial_id: None for a study's parent run. final: it has come to its end."""

    study_id: int
    trial_id: int | None
    final: bool


class OutboxRecords(Database):
    """The outbox and MLflow's ids."""

    def outbox(self, limit: int = 500) -> list[Outbox]:
        """Oldest first."""
        with self._reads() as session:
            return list(session.scalars(select(Outbox).order_by(Outbox.id).limit(limit)))

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

    def set_trial_run(self, trial_id: int, run: str | None) -> None:
        """MLflow's id of a trial."""
        with self._writes.begin() as session:
            session.execute(update(Trial).where(Trial.id == trial_id).values(run=run))

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
