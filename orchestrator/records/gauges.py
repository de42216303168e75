"""Figures for monitoring, each from one query: how much waits, how long, and how fast it goes."""

from dataclasses import dataclass, field

from sqlalchemy import func, select

from orchestrator.machine import StudyState, TrialState
from orchestrator.records.database import Database
from orchestrator.records.schema import Lease, Outbox, Study, Trial


@dataclass(frozen=True)
class Gauges:
    """What the database says of the whole of Retort at one moment. Ages in seconds; 0 where there is nothing to be old."""

    studies: dict[StudyState, int] = field(default_factory=dict)
    trials: dict[TrialState, int] = field(default_factory=dict)  # measurements among them
    queue_age: float = 0.0  # of the study that is queued longest
    outbox: int = 0  # rows that MLflow has yet to be told
    outbox_age: float = 0.0  # of the oldest of them
    outbox_set_aside: int = 0  # rows of them that MLflow refused
    lease_ages: list[float] = field(default_factory=list)  # since each lease was last renewed, oldest first
    images_per_second: float = 0.0  # of all trials that run, each in its last epoch


class Monitoring(Database):
    """The database as a monitor sees it."""

    def gauges(self) -> Gauges:
        now = self.now()

        def age(time: int | None) -> float:
            return 0.0 if time is None else max(0.0, (now - time) / 1000)

        with self._reads() as session:
            waiting, oldest = session.execute(select(func.count(), func.min(Outbox.time))).one()
            latest = session.scalars(select(Trial.latest).where(Trial.state == TrialState.RUNNING))
            return Gauges(
                studies=dict(session.execute(select(Study.state, func.count()).group_by(Study.state)).tuples().all()),
                trials=dict(session.execute(select(Trial.state, func.count()).group_by(Trial.state)).tuples().all()),
                queue_age=age(session.scalar(select(func.min(Study.created)).where(Study.state == StudyState.QUEUED))),
                outbox=waiting,
                outbox_age=age(oldest),
                outbox_set_aside=session.scalar(select(func.count()).where(Outbox.trouble.is_not(None))) or 0,
                lease_ages=[age(time) for time in session.scalars(select(Lease.heartbeat).order_by(Lease.heartbeat))],
                images_per_second=sum(float((metrics or {}).get("images_per_second", 0.0)) for metrics in latest),
            )
