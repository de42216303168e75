"""Whose studies they are: what each owner may have at once and in a month, and what they have had."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select

from orchestrator.records.database import Database
from orchestrator.records.schema import Owner


@dataclass(frozen=True)
class Used:
    """What an owner has had. lately: of the whole cluster, in seconds of it, that of long ago counting less. month: "2026-11", and the
    device-hours in it. time: until when, in milliseconds since 1970."""

    lately: float
    month: str
    month_hours: float
    time: int


class Owners(Database):
    """Quotas and usage."""

    def owners(self) -> list[Owner]:
        """All that have a quota, or have used devices, by name."""
        with self._reads() as session:
            return list(session.scalars(select(Owner).order_by(Owner.name)))

    def set_quota(self, name: str, devices: float | None, hours: float | None, weight: float) -> Owner:
        """What an owner may have at once, and of device-hours a month (None: no limit), and the weight of their fair share."""
        with self._writes.begin() as session:
            owner = session.get(Owner, name) or Owner(name=name, used=0.0, month="", month_hours=0.0, time=self.now())
            owner.devices, owner.hours, owner.weight = devices, hours, weight
            session.add(owner)
        return owner

    def count_usage(self, used: Mapping[str, Used]) -> None:
        """What owners have had by now."""
        with self._writes.begin() as session:
            for name, each in used.items():
                owner = session.get(Owner, name) or Owner(name=name, weight=1.0)
                owner.used, owner.month, owner.month_hours, owner.time = each.lately, each.month, each.month_hours, each.time
                session.add(owner)
