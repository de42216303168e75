"""What moved between two runs of a schedule by more than its noise. Pure: numbers of each row, metric and seed in, findings out.

Of every row and metric the seeds that both runs have are compared, each with itself: both trainings start from the same weights and
see the same images, so what they share cancels. With the differences d of n such seeds and their mean D,

    n >= 2:  noise = max(t(0.975; n - 1) * sd(d) / sqrt(n), half the last digit that tables print)
    n == 1:  noise = TOLERANCE, for one number tells nothing of its own spread
    counted (Params, FLOPs):  noise = 0, for they follow from the network alone

and the metric moved when |D| > noise. The intervals are of 95%, each for itself: where numbers differ by chance, one in twenty is flagged.
FPS is left out: it tells of the machine and of what else ran there. A row that had results and has none now is flagged without numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.reporting.statistics import half_width
from orchestrator.reporting.table import Table
from studies.catalog import COUNTED, DECIMALS

TOLERANCE = 0.2  # AP points by which a published number may be missed and count as reproduced
_LOWER_IS_BETTER = ("D_pred", "Params", "FLOPs", "err_")
_ROUNDING = 1e-9  # 40.2 - 40.0 is a little more than 0.2
_OF_THE_MACHINE = frozenset({"FPS"})


@dataclass(frozen=True)
class Results:
    """A row's numbers: by metric and seed."""

    row: str
    title: str
    values: dict[str, dict[int, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Moved:
    """A metric of a row that moved. before, now: means over the seeds that both runs have; now is None where the row has no result any
    more. noise: what the difference of the two exceeds."""

    row: str
    title: str
    metric: str
    before: float
    now: float | None
    noise: float
    seeds: int

    @property
    def worse(self) -> bool:
        if self.now is None:
            return True
        return (self.now > self.before) == self.metric.startswith(_LOWER_IS_BETTER)

    def sentence(self) -> str:
        """ "FitNet: AP 41.2 -> 38.0 (-3.2, noise 0.8)"."""
        digits = DECIMALS.get(self.metric, 1)
        if self.now is None:
            return f"{self.title}: {self.metric} {self.before:.{digits}f} -> no result"
        shown = max(digits, 2) if abs(self.now - self.before) < 10**-digits else digits
        numbers = f"{self.before:.{shown}f} -> {self.now:.{shown}f}"
        return f"{self.title}: {self.metric} {numbers} ({self.now - self.before:+.{shown}f}, noise {self.noise:.{max(shown, 2)}f})"

    def as_data(self) -> dict[str, Any]:
        return {**asdict(self), "worse": self.worse}

    @staticmethod
    def of(data: dict[str, Any]) -> "Moved":
        return Moved(**{name: value for name, value in data.items() if name != "worse"})


def results(table: Table) -> list[Results]:
    """What each row of a table that is trained has measured."""
    trained = [row for row in table.rows if row.difference is None]
    return [
        Results(row.id, row.title, {metric: dict(row.cells[metric].by_seed) if metric in row.cells else {} for metric in table.metrics})
        for row in trained
    ]


def compare(before: Sequence[Results], now: Sequence[Results]) -> list[Moved]:
    """Every metric that moved, in the order of the rows of `now`; what only one of the two has is not compared."""
    earlier = {row.row: row for row in before}
    found = []
    for row in now:
        old = earlier.get(row.row)
        if old is None:
            continue
        for metric, values in row.values.items():
            was = old.values.get(metric)
            moved = _moved(row, metric, was, values) if was and metric not in _OF_THE_MACHINE else None
            if moved:
                found.append(moved)
    return found


def _moved(row: Results, metric: str, before: dict[int, float], now: dict[int, float]) -> Moved | None:
    if not now:
        return Moved(row.row, row.title, metric, _mean(list(before.values())), None, 0.0, 0)
    seeds = sorted(before.keys() & now.keys())
    if not seeds:
        return None
    noise = noise_of(metric, [now[seed] - before[seed] for seed in seeds])
    was, became = (_mean([of_seed[seed] for seed in seeds]) for of_seed in (before, now))
    return Moved(row.row, row.title, metric, was, became, noise, len(seeds)) if abs(became - was) > noise + _ROUNDING else None


def noise_of(metric: str, differences: Sequence[float]) -> float:
    """What the mean of the seeds' differences must exceed; see the formula above."""
    if metric in COUNTED:
        return 0.0
    interval = half_width(differences)
    if interval is None:
        return TOLERANCE / 100 if metric == "D_pred" else TOLERANCE  # D_pred is of 1, the others of 100
    return max(interval, 0.5 * 10.0 ** -DECIMALS.get(metric, 1))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
