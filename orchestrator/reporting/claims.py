"""What a paper claims apart from digits, so that it can be checked at every scale: the sign of each gain, and the order of methods.

A gain that its interval cannot tell from zero decides nothing, and neither does an order that one seed can turn.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.reporting.statistics import Estimate, average, tau, tau_p

LEAST_ROWS = 3  # of an order
SURE = 0.05  # p value below which an order is no chance


class Standing(StrEnum):
    HOLDS = "holds"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    MISSING = "missing"


@dataclass(frozen=True)
class Gained:
    """A published gain of a row over its baseline, and the measured one where there is one."""

    row: str
    baseline: str
    metric: str
    published: float
    measured: Estimate | None


@dataclass(frozen=True)
class GainClaim(Gained):
    """Whether the sign of a published gain holds.

    holds: the measured gain has the same sign and its 95% interval excludes zero. contradicted: the other sign, zero excluded.
    undecided: the interval holds zero, or there is none (a single seed).
    """

    @property
    def standing(self) -> Standing:
        if self.measured is None:
            return Standing.MISSING
        sign = self.measured.sign
        if not sign:
            return Standing.UNDECIDED
        return Standing.HOLDS if sign * self.published > 0 else Standing.CONTRADICTED


@dataclass(frozen=True)
class OrderClaim:
    """Whether methods rank as published: Kendall's tau-b of published and measured gains, and its two-sided p value over the rows.

    baseline: the row that all gains are over; None: all of the table. How sure the seeds make it is the range of tau when any one seed is
    left out (`lowest`, `highest`; None for fewer than two seeds that all rows have): what a single seed can turn is not known yet.
    """

    baseline: str | None
    metric: str
    rows: int
    seeds: int
    tau: float
    p: float
    lowest: float | None
    highest: float | None

    @property
    def standing(self) -> Standing:
        """holds: tau above zero without any one seed, and p below 0.05; contradicted: the same below zero; else undecided."""
        if self.lowest is None or self.highest is None or self.p >= SURE:
            return Standing.UNDECIDED
        if self.lowest > 0:
            return Standing.HOLDS
        return Standing.CONTRADICTED if self.highest < 0 else Standing.UNDECIDED


@dataclass(frozen=True)
class Claims:
    """headline: the metric that is printed, the first one of accuracy with a published gain; None where there is none."""

    headline: str | None
    gains: Sequence[GainClaim]
    orders: Sequence[OrderClaim]


def claims(gained: Sequence[Gained], metrics: Sequence[str]) -> Claims:
    """The claims in these gains. metrics: of accuracy, in the order of the columns. A published gain of nought claims no sign."""
    signs = [GainClaim(each.row, each.baseline, each.metric, each.published, each.measured) for each in gained if each.published != 0]
    of_metric: dict[str, list[Gained]] = {metric: [] for metric in metrics}
    for each in gained:
        of_metric[each.metric].append(each)
    orders = [order for metric in metrics for order in _orders(metric, of_metric[metric])]
    return Claims(next((metric for metric in metrics if of_metric[metric]), None), signs, orders)


def _orders(metric: str, gained: Sequence[Gained]) -> Iterable[OrderClaim]:
    """Of each group of rows that share a baseline, then of all of them together where they are several groups."""
    groups: dict[str, list[Gained]] = {}
    for each in gained:
        groups.setdefault(each.baseline, []).append(each)
    wanted: list[tuple[str | None, Sequence[Gained]]] = [*groups.items()]
    if len(groups) > 1:
        wanted.append((None, gained))
    return [order for baseline, rows in wanted if (order := _order(baseline, metric, rows))]


def _order(baseline: str | None, metric: str, gained: Sequence[Gained]) -> OrderClaim | None:
    measured = [(each.published, each.measured) for each in gained if each.measured is not None]
    if len(measured) < LEAST_ROWS:
        return None
    published = [value for value, _ in measured]
    means = [estimate.mean for _, estimate in measured]
    found = tau(published, means)
    if found is None:
        return None
    by_seed = [estimate.by_seed for _, estimate in measured]
    seeds = sorted(set.intersection(*(set(values) for values in by_seed)))
    lowest, highest = _range(published, by_seed, seeds)
    return OrderClaim(baseline, metric, len(measured), len(seeds), found, tau_p(published, means), lowest, highest)


def _range(published: Sequence[float], gains: Sequence[Mapping[int, float]], seeds: Sequence[int]) -> tuple[float | None, float | None]:
    """Lowest and highest tau when any one of the common seeds is left out; an order that is all ties then counts as 0."""
    if len(seeds) < 2:
        return None, None
    found = []
    for left_out in seeds:
        rest = [seed for seed in seeds if seed != left_out]
        found.append(tau(published, [average([values[seed] for seed in rest]) for values in gains]) or 0.0)
    return min(found), max(found)
