"""Webhooks and their deliveries in the database: what is to be told is written there first, and goes on from there."""

import base64
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from orchestrator.machine import StudyState
from orchestrator.records.schema import Event, Study
from orchestrator.records.store import Store
from orchestrator.webhooks.schema import Delivery, Webhook

KINDS = ("study.finished", "study.failed", "study.regression")
# Seconds from one try to the next, as Standard Webhooks recommends: the last one comes three days after the first.
BACKOFF = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
_LATE = 1000  # ids: a transaction that took an id before another one may be seen after it
_BATCH = 10_000  # events that are looked at together
_MOST = 1000  # deliveries of one round


class NoSuchWebhook(LookupError):
    """There is no webhook with this id, or it was removed."""


@dataclass(frozen=True)
class Message:
    """What is to be told of an event: `event` names it once for every webhook."""

    event: int
    kind: str
    body: str


class Webhooks:
    """The webhooks of a store, on its clock."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._reads = sessionmaker(store.engine, expire_on_commit=False)
        self._writes = sessionmaker(store.engine.execution_options(retort_writes=True), expire_on_commit=False)
        self._seen = 0  # the last event that was looked at; a new process looks at all of them once

    # --- for those who ask

    def add(self, url: str, kinds: Sequence[str], owner: str) -> Webhook:
        """A webhook that is told of what happens from now on."""
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        with self._writes.begin() as session:
            webhook = Webhook(url=url, owner=owner, kinds=list(kinds), secret=secret, created=self.store.now())
            session.add(webhook)
        return webhook

    def all(self) -> list[Webhook]:
        """Those that were not removed, oldest first."""
        with self._reads() as session:
            return list(session.scalars(select(Webhook).where(Webhook.removed.is_(None)).order_by(Webhook.id)))

    def webhook(self, webhook_id: int) -> Webhook:
        """Raises NoSuchWebhook."""
        with self._reads() as session:
            return _webhook(session, webhook_id)

    def deliveries(self, webhook_id: int, limit: int = 50) -> list[Delivery]:
        """What it was told, or is to be told, newest first."""
        query = select(Delivery).where(Delivery.webhook_id == webhook_id).order_by(Delivery.id.desc()).limit(limit)
        with self._reads() as session:
            return list(session.scalars(query))

    def remove(self, webhook_id: int) -> None:
        """It is told nothing more; its history stays. Raises NoSuchWebhook."""
        with self._writes.begin() as session:
            webhook = _webhook(session, webhook_id)
            webhook.removed = self.store.now()
            for delivery in session.scalars(select(Delivery).where(Delivery.webhook_id == webhook_id, Delivery.due.is_not(None))):
                delivery.due = None

    # --- for the loop

    def collect(self) -> None:
        """Makes a delivery of every event that a webhook wants to be told of and has none of yet."""
        while self.all():
            after = max(0, self._seen - _LATE)
            with self._reads() as session:
                newest = session.scalar(select(func.max(Event.id)).where(Event.id <= self._seen + _BATCH)) or 0
                query = (
                    select(Event).where(Event.kind.in_(("study", "regression")), Event.id > after, Event.id <= newest).order_by(Event.id)
                )
                messages = _messages(session, session.scalars(query).all())
                more = session.scalar(select(func.min(Event.id)).where(Event.id > newest))
            if messages:
                self._deliver(messages)
            # Ids that are gone (a study was deleted) are stepped over.
            self._seen = max(self._seen, newest) if more is None else max(newest, more - 1)
            if more is None:
                return

    def _deliver(self, messages: Sequence[tuple[int, Message]]) -> None:
        now = self.store.now()
        with self._reads() as session:
            known = select(Delivery.webhook_id, Delivery.event_id).where(Delivery.event_id.in_([message.event for _, message in messages]))
            there = {(webhook, event) for webhook, event in session.execute(known)}
        missing = [
            Delivery(webhook_id=webhook.id, event_id=message.event, kind=message.kind, body=message.body, created=now, due=now, tries=[])
            for webhook in self.all()
            for time, message in messages
            if message.kind in webhook.kinds and time >= webhook.created and (webhook.id, message.event) not in there
        ]
        if missing:
            with self._writes.begin() as session:
                session.add_all(missing)

    def due(self) -> dict[int, list[tuple[Delivery, Webhook]]]:
        """What is to be sent now, by webhook, oldest first."""
        query = select(Delivery, Webhook).join(Webhook).where(Delivery.due <= self.store.now(), Webhook.removed.is_(None))
        found: dict[int, list[tuple[Delivery, Webhook]]] = {}
        with self._reads() as session:
            for delivery, webhook in session.execute(query.order_by(Delivery.id).limit(_MOST)):
                found.setdefault(webhook.id, []).append((delivery, webhook))
        return found

    def tried(self, delivery_id: int, status: int | None, error: str | None) -> bool:
        """What became of sending: whether it was received. Else it is due again, later each time, until it is given up."""
        now = self.store.now()
        with self._writes.begin() as session:
            delivery = session.get_one(Delivery, delivery_id, with_for_update=True)
            delivery.tries = [*delivery.tries, {"time": now, "status": status, "error": error}]
            received = status is not None and 200 <= status < 300
            if received:
                delivery.delivered, delivery.due = now, None
            elif len(delivery.tries) > len(BACKOFF):
                delivery.due = None
            else:
                delivery.due = now + BACKOFF[len(delivery.tries) - 1] * 1000
        if status == 410:
            self.remove(delivery.webhook_id)  # gone: the receiver wants to be told nothing more
        return received


def _webhook(session: Session, webhook_id: int) -> Webhook:
    webhook = session.get(Webhook, webhook_id)
    if webhook is None or webhook.removed is not None:
        raise NoSuchWebhook(f"there is no webhook {webhook_id}")
    return webhook


def _messages(session: Session, events: Iterable[Event]) -> list[tuple[int, Message]]:
    """(time, message) of those events that somebody may want to be told of; what moved in one run is one message."""
    found: dict[int, tuple[int, Message]] = {}
    for event in events:
        if event.kind == "study" and event.data["state"] in (StudyState.FINISHED, StudyState.FAILED):
            found[event.id] = _message(session, event, f"study.{event.data['state']}", reason=event.data["reason"])
        elif event.kind == "regression" and event.data["worse"]:
            first, moved = _worse_with(session, event)
            found[first.id] = _message(session, first, "study.regression", against=first.data["against"], moved=moved)
    return list(found.values())


def _worse_with(session: Session, event: Event) -> tuple[Event, list[dict[str, Any]]]:
    """The first of all regressions that one run's end told, and what got worse in them."""
    query = select(Event).where(Event.study_id == event.study_id, Event.kind == "regression", Event.time == event.time)
    worse = [each for each in session.scalars(query.order_by(Event.id)) if each.data["worse"]]
    return worse[0], [{name: value for name, value in each.data.items() if name != "against"} for each in worse]


def _message(session: Session, event: Event, kind: str, **detail: Any) -> tuple[int, Message]:
    study = session.get_one(Study, event.study_id)
    data = {"study": study.id, "name": study.name, "owner": study.owner, **detail}
    content = {"type": kind, "timestamp": datetime.fromtimestamp(event.time / 1000, UTC).isoformat(), "data": data}
    return event.time, Message(event.id, kind, json.dumps(content, ensure_ascii=False))
