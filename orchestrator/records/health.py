"""How the loops of the service are: each leaves a heartbeat, with its trouble if it has any."""

from sqlalchemy import select

from orchestrator.records.database import Database
from orchestrator.records.schema import Heartbeat


class Health(Database):
    """Heartbeats."""

    def beat(self, name: str, trouble: str = "") -> None:
        """A loop of the service came round; `trouble` says what keeps it from its work."""
        with self._writes.begin() as session:
            session.merge(Heartbeat(name=name, time=self.now(), trouble=trouble))

    def heartbeats(self) -> list[Heartbeat]:
        """Every loop of the service with the time it was last seen."""
        with self._reads() as session:
            return list(session.scalars(select(Heartbeat).order_by(Heartbeat.name)))
