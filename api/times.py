"""Stored times as they are answered."""

from datetime import UTC, datetime


def at(milliseconds: int) -> datetime:
    """A stored time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def maybe_at(milliseconds: int | None) -> datetime | None:
    """A stored time that may not have come."""
    return None if milliseconds is None else at(milliseconds)
