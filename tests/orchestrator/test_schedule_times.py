"""Cron times across daylight saving: no wall time is lost, none comes twice; and every minute is every minute."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.schedules import times
from orchestrator.schedules.times import BadTime, after, check_cron, check_zone, count_until, told, upcoming

HOUR = 3_600_000


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def shown(cron: str, zone: str, start: str, count: int) -> list[str]:
    return [told(time, zone)[5:] for time in upcoming(cron, zone, at(start), count)]


def test_saturdays_at_two_in_paris() -> None:
    assert shown("0 2 * * 6", "Europe/Paris", "2026-11-21T01:00", 2) == ["11-28 02:00 CET", "12-05 02:00 CET"]


def test_a_time_that_the_jump_leaves_out_runs_as_much_later_as_the_jump_is_long() -> None:
    assert shown("30 2 * * *", "Europe/Paris", "2026-03-28T00:00", 3) == ["03-28 02:30 CET", "03-29 03:30 CEST", "03-30 02:30 CEST"]
    # Lord Howe's clocks jump by half an hour: from 02:00 to 02:30.
    assert shown("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T13:00", 3) == ["10-03 02:15 +1030", "10-04 02:45 +11", "10-05 02:15 +11"]


def test_a_time_that_comes_twice_runs_at_its_first() -> None:
    assert shown("30 2 * * *", "Europe/Paris", "2026-10-24T00:00", 3) == ["10-24 02:30 CEST", "10-25 02:30 CEST", "10-26 02:30 CET"]
    assert shown("45 1 * * *", "Australia/Lord_Howe", "2026-04-03T13:00", 3) == ["04-04 01:45 +11", "04-05 01:45 +11", "04-06 01:45 +1030"]


def test_asked_between_the_two_occurrences_the_second_is_not_due() -> None:
    between = at("2026-10-25T00:45")  # 02:45 CEST; 02:30 CET comes at 01:30 UTC
    assert told(after("30 2 * * *", "Europe/Paris", between), "Europe/Paris") == "2026-10-26 02:30 CET"


def test_times_of_the_gap_that_fall_on_another_time_are_one() -> None:
    assert shown("0,30 2,3 * * *", "Europe/Paris", "2026-03-29T00:00", 3) == ["03-29 03:00 CEST", "03-29 03:30 CEST", "03-30 02:00 CEST"]


def test_a_step_over_hours_keeps_its_number_of_times_a_day() -> None:
    for start in ("2026-03-28T23:00", "2026-10-24T22:00", "2026-06-01T22:00"):  # midnight in Paris: a day of 23, of 25 and of 24 hours
        day = timedelta(days=1)
        midnight = datetime.fromtimestamp(at(start) / 1000, ZoneInfo("Europe/Paris"))
        assert (midnight.hour, midnight.minute) == (0, 0)
        end = round(((midnight.replace(tzinfo=None) + day).replace(tzinfo=ZoneInfo("Europe/Paris"))).timestamp() * 1000)
        assert count_until("0 */2 * * *", "Europe/Paris", at(start), end - 1) == 12


@pytest.mark.parametrize(("start", "hours"), [("2026-03-28T20:00", 12), ("2026-10-24T20:00", 12)])
@pytest.mark.parametrize(("cron", "an_hour"), [("* * * * *", 60), ("*/20 * * * *", 3), ("15 * * * *", 1)])
def test_every_so_many_minutes_is_so_in_elapsed_time(start: str, hours: int, cron: str, an_hour: int) -> None:
    found = upcoming(cron, "Europe/Paris", at(start), hours * an_hour)
    steps = {later - earlier for earlier, later in pairwise(found)}
    assert steps == {HOUR // an_hour}


@pytest.mark.parametrize("change", ["2026-04-04T10:00", "2026-10-03T10:00"])
def test_every_minute_is_every_minute_where_the_clocks_jump_by_half_an_hour(change: str) -> None:
    found = upcoming("* * * * *", "Australia/Lord_Howe", at(change), 12 * 60)
    assert found == list(range(found[0], found[0] + 12 * HOUR, 60_000))


CHANGES = [
    ("Europe/Paris", datetime(2026, 3, 29, 1)),
    ("Europe/Paris", datetime(2026, 10, 25, 1)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30)),
    ("America/New_York", datetime(2026, 3, 8, 7)),
]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(CHANGES), st.integers(0, 59), st.integers(0, 5), st.integers(-180, 180))
def test_a_daily_time_comes_once_every_day_wherever_one_asks_from(
    change: tuple[str, datetime], minute: int, hour: int, minutes: int
) -> None:
    zone, instant = change
    cron, place = f"{minute} {hour} * * *", ZoneInfo(zone)
    start = instant.replace(tzinfo=UTC) - timedelta(days=2)
    found = upcoming(cron, zone, round(start.timestamp() * 1000), 5)
    days = [times.from_milliseconds(time).astimezone(place).date() for time in found]
    assert days == [days[0] + timedelta(days=n) for n in range(5)]
    asked = round((instant.replace(tzinfo=UTC) + timedelta(minutes=minutes)).timestamp() * 1000)
    assert after(cron, zone, asked) == next(time for time in found if time > asked)


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        ("0 2 * *", "five fields .* these are 4"),
        ("0 0 2 * * 6", "five fields .* these are 6"),
        ("61 2 * * 6", "the field of the minute is wrong"),
        ("0 2 * * 8", "the field of the day-of-week is wrong"),
        ("0 2 30 2 *", "the field of the day-of-month is wrong"),
        ("0 2 */20 * 1L", "no such day in fifty years"),
        ("@daily", "these are 1"),
    ],
)
def test_an_expression_that_cannot_be_is_refused_by_its_field(cron: str, told: str) -> None:
    with pytest.raises(BadTime, match=told):
        check_cron(cron)


def test_an_unknown_zone_is_refused_with_the_nearest() -> None:
    assert check_zone("Europe/Paris") == "Europe/Paris"
    with pytest.raises(BadTime, match="did you mean 'Europe/Paris'"):
        check_zone("Europe/Pariss")
    with pytest.raises(BadTime, match="such as Europe/Paris or UTC"):
        check_zone("../../etc/passwd")
