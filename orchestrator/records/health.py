"""How the loops of the service and the drivers are: each leaves a heartbeat, with its trouble if it has any."""

from collections.abc import Iterable

from sqlalchemy import delete, select

from orchestrator.records.database import Database
from orchestrator.records.schema import Heartbeat

_DRIVER = "driver/"  # before the names of heartbeats that are drivers'


class Health(Database):
    """Heartbeats."""

    def beat(self, name: str, trouble: str = "", seconds: float = 0.0, troubles: int = 0) -> None:
        """A loop of the service came round, which took so many seconds; `trouble` says what keeps it from its work."""
        with self._writes.begin() as session:
            session.merge(Heartbeat(name=name, time=self.now(), trouble=trouble, seconds=seconds, troubles=troubles))

    def try_writing(self) -> None:
        """Changes nothing, but waits, or raises, as long as the database takes no words."""
        with self._writes.begin() as session:
            session.execute(delete(Heartbeat).where(Heartbeat.name == ""))

    def heartbeats(self) -> list[Heartbeat]:
        """Every loop of the service with the time it was last seen."""
        with self._reads() as session:
            return list(session.scalars(select(Heartbeat).where(Heartbeat.name.not_like(f"{_DRIVER}%")).order_by(Heartbeat.name)))

    def driver_lives(self, study_id: int, attempt: int) -> None:
        """The driver of an attempt came round."""
        self.beat(f"{_DRIVER}{study_id}/{attempt}")

    def driver_seen(self, study_id: int, attempt: int) -> int | None:
        """When the driver of an attempt came round last, in milliseconds since 1970; None where it never did."""
        with self._reads() as session:
            beat = session.get(Heartbeat, f"{_DRIVER}{study_id}/{attempt}")
            return beat.time if beat else None

    def driver_silence(self, study_id: int, attempt: int) -> float | None:
        """Seconds since then."""
        seen = self.driver_seen(study_id, attempt)
        return None if seen is None else (self.now() - seen) / 1000

    def forget_driver(self, study_id: int, attempt: int) -> None:
        """The attempt is over."""
        with self._writes.begin() as session:
            session.execute(delete(Heartbeat).where(Heartbeat.name == f"{_DRIVER}{study_id}/{attempt}"))

    def forget_loops(self, names: Iterable[str]) -> None:
        """Forgets the loops of an earlier version: only those of these names beat now."""
        with self._writes.begin() as session:
            strange = Heartbeat.name.not_in(list(names)), Heartbeat.name.not_like(f"{_DRIVER}%")
            session.execute(delete(Heartbeat).where(*strange))
