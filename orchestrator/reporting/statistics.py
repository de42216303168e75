"""Means over seeds, their 95% intervals, differences seed by seed, and Kendall's tau. Pure numbers, no studies."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
ALL_PAIRS = 100  # up to so many values all pairs are compared: scipy's checks of its arguments take longer than that


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    half_width: of the two-sided 95% Student t interval, None for one value and for what is counted. n: how many values are behind it.
    by_seed: these values; empty for a difference of two rows that cannot be paired.
    """

    mean: float
    half_width: float | None
    n: int
    by_seed: Mapping[int, float]

    @property
    def sign(self) -> int | None:
        """1 or -1 where the interval excludes zero, 0 where it holds it, None without an interval."""
        if self.half_width is None:
            return None
        return 0 if abs(self.mean) <= self.half_width else 1 if self.mean > 0 else -1

    @property
    def p(self) -> float | None:
        """Two-sided p value of a true mean of zero (Student's t test); None without an interval."""
        if self.half_width is None:
            return None
        error = self.half_width / _quantile(self.n - 1)
        if error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stdtr(self.n - 1, -abs(self.mean) / error))


def estimate(by_seed: Mapping[int, float], interval: bool = True) -> Estimate:
    """The mean of at least one value, with its interval where it has one."""
    values = list(by_seed.values())
    return Estimate(average(values), half_width(values) if interval else None, len(values), by_seed)


def difference(of: Mapping[int, float], minus: Mapping[int, float], interval: bool = True) -> Estimate:
    """One row minus another, of at least one seed each.

    Over the seeds that both have, whose students start from the same weights and see the same images. Fewer than two such seeds have no
    interval, so then it is the difference of the means of all there are, and `n` that of the row with fewer.
    """
    common = {seed: value - minus[seed] for seed, value in of.items() if seed in minus}
    if len(common) >= 2 or len(of) == len(minus) == len(common):
        return estimate(common, interval)
    return Estimate(average(of.values()) - average(minus.values()), None, min(len(of), len(minus)), {})


def average(values: Collection[float]) -> float:
    return math.fsum(values) / len(values)


def half_width(values: Sequence[float]) -> float | None:
    """Half-width of the two-sided 95% Student t interval of the mean; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    mean = average(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return _quantile(n - 1) * deviation / math.sqrt(n)


@lru_cache
def _quantile(degrees: int) -> float:
    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))


def tau(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's tau-b of two orders; None where one of them is all ties."""
    if len(a) > ALL_PAIRS:
        statistic, _ = _kendall(a, b, "asymptotic")
        return None if math.isnan(statistic) else statistic
    signs_a, signs_b = (np.sign(np.subtract.outer(values, values)) for values in (a, b))  # (N, N)
    pairs = math.sqrt(np.vdot(signs_a, signs_a) * np.vdot(signs_b, signs_b))
    return float(np.vdot(signs_a, signs_b)) / pairs if pairs else None


def tau_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p value of Kendall's tau: exact for few values without ties, else of its normal approximation."""
    return _kendall(a, b, "auto")[1]


def _kendall(a: Sequence[float], b: Sequence[float], method: str) -> tuple[float, float]:
    """scipy's tau-b and its p value."""
    from scipy.stats import kendalltau  # at the first use: a second of every process's start for what few tables ask

    found = kendalltau(a, b, method=method)
    return float(found.statistic), float(found.pvalue)
