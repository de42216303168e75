"""Numbers as they are printed: the column's decimals, and three significant digits for what these would round away."""

import math

from orchestrator.reporting.statistics import Estimate
from orchestrator.reporting.table import Cell, Printed
from orchestrator.reporting.verdicts import Verdict
from studies.presentation import Column

SMALL = 0.01  # below it, columns of two and more decimals give three significant digits
MOST = 9  # decimals
NOTHING = "–"  # noqa: RUF001 - an en dash, as papers print it
MARKS = {Verdict.REPRODUCED: "✓", Verdict.OFF: "✗", Verdict.NOT_COMPARABLE: "n/c", Verdict.MISSING: "missing"}


def places(number: float, column: Column) -> int:
    """Decimals that a number is printed with: 57.8, 0.0123, 0.000296. A percentage has one or two, however small."""
    if column.decimals < 2 or number == 0 or abs(number) >= SMALL:
        return column.decimals
    return min(MOST, max(column.decimals, 2 - math.floor(math.log10(abs(number)))))


def plain(number: float, column: Column) -> str:
    return f"{_rounded(number, places(number, column)):.{places(number, column)}f}"


def signed(number: float, digits: int) -> str:
    """ "+0.3"; what rounds to nought is "+0.0" from either side."""
    return f"{_rounded(number, digits):+.{digits}f}"


def value(cell: Cell, column: Column, plus_minus: str = "±", gain: bool = False) -> str:
    """ "47.9 ±0.4", with the gain "47.9 ±0.4 (+10.3 ±0.2)"."""
    digits = places(cell.mean, column)
    told = f"{_rounded(cell.mean, digits):.{digits}f}{_interval(cell, digits, plus_minus)}"
    return f"{told} ({_gain(cell.gain, digits, plus_minus)})" if gain and cell.gain else told


def difference(gain: Estimate, column: Column, plus_minus: str = "±") -> str:
    """ "+10.3 ±0.2"."""
    return _gain(gain, places(gain.mean, column), plus_minus)


def compared(cell: Cell | None, printed: Printed | None, column: Column, expected: int) -> str:
    """What a cell says in text: "47.9 ±0.4 (+10.3)", or beside a published number "48.1 → 47.9 ±0.4 (-0.2) ✓".

    expected: how many values the cells of its row have; a cell of fewer says so.
    """
    fewer = f" (n {cell.n})" if cell and cell.n < expected else ""
    if printed is None:
        return f"{value(cell, column, gain=True)}{fewer}" if cell else NOTHING
    measured = f"{value(cell, column)}{fewer}" if cell else NOTHING
    mark = MARKS.get(printed.verdict) if printed.verdict and cell else None
    star = "*" if printed.remarked else ""
    missed = f"({off})" if (off := missed_by(printed, column)) else None
    return " ".join(filter(None, (f"{plain(printed.value, column)}{star} → {measured}", missed, mark)))


def missed_by(printed: Printed, column: Column) -> str | None:
    """By how much a measured number misses the published one; None where the two are not comparable, or not judged."""
    if printed.difference is None or printed.verdict not in (Verdict.REPRODUCED, Verdict.OFF):
        return None
    return signed(printed.difference, places(printed.value, column))


def _gain(gain: Estimate, digits: int, plus_minus: str) -> str:
    return f"{signed(gain.mean, digits)}{_interval(gain, digits, plus_minus)}"


def _interval(estimate: Estimate, digits: int, plus_minus: str) -> str:
    return "" if estimate.half_width is None else f" {plus_minus}{estimate.half_width:.{digits}f}"


def _rounded(number: float, digits: int) -> float:
    return round(number, digits) + 0.0  # makes -0.0 a nought
