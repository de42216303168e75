"""The store: all that is read from and written to the database of one Retort, behind one small contract."""

from orchestrator.records.commands import Commands
from orchestrator.records.gauges import Monitoring
from orchestrator.records.health import Health
from orchestrator.records.leases import Leases
from orchestrator.records.outbox import OutboxRecords
from orchestrator.records.owners import Owners
from orchestrator.records.progress import Progress
from orchestrator.records.queue import Queue
from orchestrator.records.searches import Searches
from orchestrator.records.signs import Signs


class Store(Commands, Leases, Progress, Queue, Owners, Searches, Signs, OutboxRecords, Health, Monitoring):
    """Whoever acts on a study comes through here; each concern has a file of its own."""
