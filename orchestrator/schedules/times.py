"""When a cron expression is due in a time zone. Pure: an instant in, the next one out, in milliseconds since 1970 (UTC).

cronsim walks the wall times of an expression; which instants they are is decided here, after RFC 5545, section 3.3.5:

* a wall time that a jump of the clocks leaves out is read with the offset before the jump: 02:30 becomes 03:30 that day;
* a wall time that comes twice is its first occurrence.

An expression whose hour field is every hour speaks of intervals, not of times of day: it is due whenever the clock shows a matching
minute, so in a repeated hour as well. What falls on the same instant is one time.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

_DAY = timedelta(days=1)
COUNT_AT_MOST = 1000  # missed times are counted so far


class BadTime(ValueError):
    """A cron expression or a time zone that cannot be used; the message says what would be right."""


def check_cron(expression: str) -> str:
    """The expression with single spaces. Raises BadTime."""
    fields = expression.split()
    example = "such as '0 2 * * 6' (Saturdays at 02:00)"
    if len(fields) != 5:
        raise BadTime(f"five fields (minute, hour, day of month, month, day of week), {example}; these are {len(fields)}")
    try:
        next(iter(CronSim(expression, datetime(2000, 1, 1))))
    except (CronSimError, ValueError, AssertionError, TypeError) as error:
        raise BadTime(f"{_bad_field(str(error))}: five fields (minute, hour, day of month, month, day of week), {example}") from None
    except StopIteration:
        raise BadTime(f"there is no such day in fifty years; {example}") from None
    return " ".join(fields)


def _bad_field(told: str) -> str:
    return f"the field of the {told.removeprefix('Bad ')} is wrong" if told.startswith("Bad ") else "it cannot be read"


def check_zone(name: str) -> str:
    """The name of a zone of the time zone database. Raises BadTime."""
    if name not in _zones():
        near = get_close_matches(name, _zones(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BadTime(f"a zone of the time zone database, such as Europe/Paris or UTC{hint}")
    return name


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def after(expression: str, zone: str, instant: int) -> int:
    """The first due time later than `instant`. Raises BadTime where there is none."""
    place, now = ZoneInfo(zone), from_milliseconds(instant)
    walls = CronSim(expression, now.astimezone(place).replace(tzinfo=None) - _shift(place, now))
    every_hour = len(walls.hours) == 24
    found: tuple[datetime, datetime] | None = None  # the earliest instant so far, and the wall time up to which an earlier one may come
    for wall in walls:
        if found and wall > found[1]:
            break
        for moment in _moments(wall, place, every_hour):
            if moment > now and (found is None or moment < found[0]):
                shift = _shift(place, moment)
                if not shift:
                    return _milliseconds(moment)
                found = (moment, found[1] if found else wall + shift)
    if found is None:
        raise BadTime(f"{expression!r} has no time any more")
    return _milliseconds(found[0])


def _moments(wall: datetime, zone: ZoneInfo, every_hour: bool) -> Iterator[datetime]:
    """The instants of a wall time. A time left out has, at fold 0, the offset before the jump (PEP 495)."""
    first = wall.replace(tzinfo=zone).astimezone(UTC)
    yield first
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if every_hour and second > first:
        yield second


def _shift(zone: ZoneInfo, instant: datetime) -> timedelta:
    """By how much the clocks jump within a day of the instant; nought on nearly all days."""
    before, behind = ((instant + days).astimezone(zone).utcoffset() or timedelta() for days in (-_DAY, _DAY))
    return abs(behind - before)


def upcoming(expression: str, zone: str, instant: int, count: int) -> list[int]:
    """The next due times after `instant`."""
    times = [after(expression, zone, instant)]
    while len(times) < count:
        times.append(after(expression, zone, times[-1]))
    return times


def count_until(expression: str, zone: str, first: int, last: int) -> int:
    """How many due times there are from the due time `first` to `last`, both included; at most COUNT_AT_MOST."""
    count = 0
    while first <= last and count < COUNT_AT_MOST:
        count, first = count + 1, after(expression, zone, first)
    return count


def told(instant: int, zone: str) -> str:
    """An instant as the clock of the zone shows it: "2026-11-28 02:00 CET"."""
    return from_milliseconds(instant).astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M %Z")


def from_milliseconds(instant: int) -> datetime:
    return datetime.fromtimestamp(instant / 1000, UTC)


def _milliseconds(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)
