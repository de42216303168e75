"""Verdicts on published numbers."""

import pytest

from orchestrator.reporting.statistics import estimate
from orchestrator.reporting.verdicts import Verdict, judge
from tests.orchestrator.reporting.made import published, row, table, trials

MEASURED = estimate({0: 41.3})


@pytest.mark.parametrize(
    ("value", "verdict"), [(41.3, Verdict.REPRODUCED), (41.5, Verdict.REPRODUCED), (41.1, Verdict.REPRODUCED), (41.51, Verdict.OFF)]
)
def test_within_the_tolerance_it_is_reproduced(value: float, verdict: Verdict) -> None:
    assert judge(published(value, 0.2), MEASURED, comparable=True) == verdict


def test_inside_the_interval_it_is_reproduced() -> None:
    three = estimate({0: 40.0, 1: 41.0, 2: 42.0})  # 41.0 +-2.48
    assert judge(published(43.4, 0.2), three, comparable=True) == Verdict.REPRODUCED
    assert judge(published(43.5, 0.2), three, comparable=True) == Verdict.OFF


def test_what_was_not_measured_is_missing() -> None:
    assert judge(published(41.3), None, comparable=True) == Verdict.MISSING


def test_without_a_tolerance_nothing_is_judged() -> None:
    assert judge(published(41.3, None), MEASURED, comparable=True) is None


def test_at_another_scale_nothing_compares_not_even_a_count() -> None:
    assert judge(published(41.3, None), MEASURED, comparable=False) == Verdict.NOT_COMPARABLE
    assert judge(published(41.3), None, comparable=False) == Verdict.NOT_COMPARABLE


def test_a_cell_has_published_measured_difference_and_verdict() -> None:
    made = table([row("student", "baseline", published={"AP": published(31.5, 0.1)})], trials("student", 30.0, 31.0, 32.0))
    printed = made.rows[0].printed["AP"]
    assert (printed.value, printed.difference, printed.verdict) == (31.5, -0.5, Verdict.REPRODUCED)
    assert made.rows[0].printed.keys() == {"AP"}


def test_a_difference_row_is_judged_by_its_own_printed_number() -> None:
    rows = [
        row("student", "baseline"),
        row("fitnet", "distilled", baseline="student"),
        row("gain", "difference", 0, difference={"of": "fitnet", "minus": "student"}, published={"AP": published(10.3, 0.2)}),
    ]
    made = table(rows, [*trials("student", 30.0, 31.0, 32.0), *trials("fitnet", 40.0, 41.0, 42.0)])
    assert made.rows[2].printed["AP"].difference == pytest.approx(-0.3)
    assert made.rows[2].printed["AP"].verdict == Verdict.OFF
