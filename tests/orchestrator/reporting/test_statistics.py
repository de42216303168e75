"""Intervals, p values and Kendall's tau, against values worked out by hand and scipy's tests."""

import pytest
from scipy.stats import kendalltau, t, ttest_1samp

from orchestrator.reporting.statistics import ALL_PAIRS, difference, estimate, half_width, tau, tau_p

DIFFERENCES = {0: 0.4, 1: 0.9, 2: 0.2, 3: 0.7}


def test_no_interval_for_a_single_seed() -> None:
    assert half_width([5.0]) is None
    assert half_width([]) is None
    assert half_width([5.0, 5.0]) == 0.0


@pytest.mark.parametrize("n", [2, 3, 5, 50])
def test_the_interval_is_student_s(n: int) -> None:
    values = [float(value * value % 11) for value in range(1, n + 1)]
    mean = sum(values) / n
    deviation = (sum((value - mean) ** 2 for value in values) / (n - 1)) ** 0.5
    assert half_width(values) == pytest.approx(t.ppf(0.975, n - 1) * deviation / n**0.5, rel=1e-12)


def test_the_p_value_is_that_of_the_t_test() -> None:
    measured = estimate(DIFFERENCES)
    assert measured.p == pytest.approx(ttest_1samp(list(DIFFERENCES.values()), 0).pvalue, rel=1e-9)
    assert measured.p is not None
    assert (measured.sign == 1) == (measured.p < 0.05)


def test_seeds_that_all_agree_leave_no_doubt() -> None:
    assert (estimate({0: 0.5, 1: 0.5}).p, estimate({0: 0.5, 1: 0.5}).sign) == (0.0, 1)
    assert (estimate({0: 0.0, 1: 0.0}).p, estimate({0: 0.0, 1: 0.0}).sign) == (1.0, 0)
    assert (estimate({0: 0.5}).p, estimate({0: 0.5}).sign) == (None, None)


def test_a_difference_is_taken_seed_by_seed() -> None:
    paired = difference({0: 3.0, 1: 5.0, 7: 100.0}, {0: 1.0, 1: 2.0, 2: 50.0})
    assert (paired.mean, paired.n, paired.by_seed) == (2.5, 2, {0: 2.0, 1: 3.0})
    apart = difference({5: 3.0}, {0: 1.0, 1: 2.0})
    assert (apart.mean, apart.half_width, apart.n, apart.by_seed) == (1.5, None, 1, {})


def test_tau_is_the_share_of_pairs_in_order_less_that_of_the_others() -> None:
    assert tau([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)  # five of six pairs in order
    assert tau_p([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(8 / 24)  # of 24 orders, 4 are as near, and 4 as near to the reverse
    assert tau([1, 2, 3], [5, 5, 5]) is None
    assert tau([1.0] * 200, list(range(200))) is None


@pytest.mark.parametrize("n", [3, 20, ALL_PAIRS, ALL_PAIRS + 1])
def test_tau_with_ties_is_scipy_s(n: int) -> None:
    a, b = [value * 7 % 13 for value in range(n)], [value * 5 % 11 for value in range(n)]
    assert tau(a, b) == pytest.approx(kendalltau(a, b).statistic, abs=1e-12)
