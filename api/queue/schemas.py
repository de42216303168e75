"""The queue, and owners with their quotas, as they are answered."""

from datetime import datetime

from pydantic import BaseModel, Field


class PlaceAnswer(BaseModel):
    """A study with trials that wait for devices."""

    place: int = Field(description="1 is next")
    study: int
    name: str
    owner: str | None
    priority: int
    reason: str = Field(description="why its next trial waits")
    expected: datetime | None = Field(description="when that is thought to start, to the minute; null where nobody can tell")
    ready: int = Field(description="trials that could start")
    running: int = Field(description="trials that have devices")


class QueueAnswer(BaseModel):
    """The studies that wait, the next one first."""

    items: list[PlaceAnswer]


class Quota(BaseModel, extra="forbid"):
    """What an owner may have."""

    devices: float | None = Field(None, gt=0, le=100_000, description="at once, most; GPUs, of trials without any CPUs; null: no limit")
    hours: float | None = Field(None, ge=0, le=10_000_000, description="device-hours a month (UTC), most; null: no limit")
    weight: float = Field(1.0, gt=0, le=1000, description="of their share where several want devices")


class OwnerAnswer(Quota):
    """An owner: what they may have, and what they have had."""

    name: str
    month: str = Field(description="2026-11; empty before anything ran")
    month_hours: float = Field(description="device-hours in it")


class OwnerList(BaseModel):
    """Owners by name."""

    items: list[OwnerAnswer]


class Stay(BaseModel):
    """A trial on its devices."""

    trial: str
    began: datetime
    ended: datetime | None = Field(description="null: it is there still")
    outcome: str = Field(
        description="running, finished, stopped (by its search), failed, cancelled, or ready: it was lost or made room, and goes on later"
    )


class TimelineAnswer(BaseModel):
    """When the trials of a study had devices, in order of their beginning."""

    study: int
    name: str
    items: list[Stay]
