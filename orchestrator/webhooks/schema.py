"""The tables of webhooks. A delivery is made once for each webhook and event, and stays as its history."""

from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from orchestrator.records.schema import Base, Id


class Webhook(Base):
    """An address that is told of events."""

    __tablename__ = "webhook"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    owner: Mapped[str] = mapped_column(String(200))
    kinds: Mapped[list[Any]]  # study.finished, study.failed, study.regression
    secret: Mapped[str] = mapped_column(String(100))  # "whsec_" and base64; signing needs it as it is
    created: Mapped[int]
    removed: Mapped[int | None]


class Delivery(Base):
    """A message to a webhook."""

    __tablename__ = "delivery"
    __table_args__ = (UniqueConstraint("webhook_id", "event_id"), Index(None, "due"))

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhook.id", ondelete="CASCADE"))
    event_id: Mapped[int]  # of the event that it tells; the event itself may be gone
    kind: Mapped[str] = mapped_column(String(32))
    body: Mapped[str] = mapped_column(Text)  # as it is signed and sent
    created: Mapped[int]
    due: Mapped[int | None]  # next try; None: delivered, or given up
    delivered: Mapped[int | None]
    tries: Mapped[list[Any]]  # oldest first: {"time": ms, "status": 200 or null, "error": why it failed or null}

    @property
    def message(self) -> str:
        """Its id for the receiver, the same however often it is sent."""
        return f"msg_{self.webhook_id}_{self.event_id}"
