"""Tells webhooks what happened: a loop of the service that holds nothing itself.

A message may come twice, with the same id, where this process dies between sending and writing so; it is never lost.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from orchestrator.records.store import Store
from orchestrator.webhooks.addresses import allowed_networks
from orchestrator.webhooks.schema import Delivery, Webhook
from orchestrator.webhooks.sending import NotSent, send
from orchestrator.webhooks.store import Webhooks

_AT_ONCE = 8  # receivers


class Telling:
    """Reconciles deliveries with events, and sends what is due."""

    name = "webhooks"
    interval = 1.0
    listens = False

    def __init__(self, store: Store) -> None:
        self.webhooks, self.networks = Webhooks(store), allowed_networks()

    def step(self) -> None:
        self.webhooks.collect()
        due = self.webhooks.due()
        if due:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(self._tell, due.values()))

    def _tell(self, due: Sequence[tuple[Delivery, Webhook]]) -> None:
        """One receiver's messages in their order, up to the first that it does not take: a receiver that hangs holds its own ones only."""
        for delivery, webhook in due:
            try:
                status = send(webhook.url, webhook.secret, delivery.message, delivery.body, self.networks)
                told = None if status < 300 else f"it answered {status}"
            except NotSent as trouble:
                status, told = None, str(trouble)
            if not self.webhooks.tried(delivery.id, status, told):
                return
