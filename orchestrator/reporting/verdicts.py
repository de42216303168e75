"""The verdict on a published number: whether what was measured here reproduces it."""

from enum import StrEnum

from orchestrator.reporting.statistics import Estimate
from studies.presentation import Published

ROUNDING = 1e-9  # printed numbers are decimal, their differences binary: 41.3 lies within 0.2 of 41.5


class Verdict(StrEnum):
    REPRODUCED = "reproduced"  # within the tolerance, or inside the 95% interval
    OFF = "off"
    NOT_COMPARABLE = "not comparable"  # of another scale or other data
    MISSING = "missing"  # nothing measured


def judge(published: Published, measured: Estimate | None, comparable: bool) -> Verdict | None:
    """The verdict on a published number; None for one that is never judged (no tolerance)."""
    if not comparable:
        return Verdict.NOT_COMPARABLE
    if measured is None:
        return Verdict.MISSING
    if published.tolerance is None:
        return None
    allowed = max(published.tolerance, measured.half_width or 0.0)
    return Verdict.REPRODUCED if abs(measured.mean - published.value) <= allowed + ROUNDING else Verdict.OFF
