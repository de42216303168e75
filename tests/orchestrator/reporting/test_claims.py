"""Claims apart from digits: signs of gains and the order of methods, and what the seeds leave undecided."""

import pytest

from orchestrator.records.schema import Trial
from orchestrator.reporting.claims import Gained, Standing, claims
from orchestrator.reporting.rendering import render
from orchestrator.reporting.statistics import estimate
from orchestrator.reporting.summary import summary
from orchestrator.reporting.verdicts import Verdict
from studies.presentation import Row
from tests.orchestrator.reporting.made import published, row, table, trials


def gained(published: float, *differences: float, row: str = "a", baseline: str = "base") -> Gained:
    return Gained(row, baseline, "AP", published, estimate(dict(enumerate(differences))) if differences else None)


@pytest.mark.parametrize(
    ("gain", "standing"),
    [
        (gained(+1.0, 2.0, 2.1, 1.9), Standing.HOLDS),
        (gained(-1.0, -2.0, -2.1, -1.9), Standing.HOLDS),
        (gained(+1.0, -2.0, -2.1, -1.9), Standing.CONTRADICTED),
        (gained(+1.0, 2.0, -1.0, 3.0), Standing.UNDECIDED),  # the interval holds zero
        (gained(+1.0, 9.0), Standing.UNDECIDED),  # a single seed decides nothing
        (gained(+1.0), Standing.MISSING),
    ],
)
def test_the_sign_of_a_gain(gain: Gained, standing: Standing) -> None:
    assert claims([gain], ["AP"]).gains[0].standing == standing


def test_a_published_gain_of_nought_claims_no_sign() -> None:
    assert claims([gained(0.0, 1.0, 2.0)], ["AP"]).gains == []


def test_an_order_of_five_methods_that_every_seed_repeats_holds() -> None:
    rows = [gained(rank, rank + 0.1, rank + 0.2, rank + 0.3, row=f"r{rank}") for rank in (1.0, 2.0, 3.0, 4.0, 5.0)]
    order = claims(rows, ["AP"]).orders[0]
    assert (order.rows, order.seeds) == (5, 3)
    assert (order.tau, order.lowest, order.highest) == pytest.approx((1.0, 1.0, 1.0))
    assert order.p == pytest.approx(2 / 120)  # the order and its reverse among 5!
    assert order.standing == Standing.HOLDS


def test_the_reversed_order_is_contradicted_and_three_rows_are_too_few_to_say() -> None:
    rows = [gained(rank, -rank, -rank, row=f"r{rank}") for rank in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert claims(rows, ["AP"]).orders[0].standing == Standing.CONTRADICTED
    few = claims(rows[:3], ["AP"]).orders[0]
    assert (few.tau, few.p, few.standing) == (-1.0, pytest.approx(2 / 6), Standing.UNDECIDED)
    assert claims(rows[:2], ["AP"]).orders == []


def test_how_sure_an_order_is_shows_when_a_seed_is_left_out() -> None:
    # Means over all seeds: 1, 2, 3. Without seed 0 the first two change places, and tau falls from 1 to 1/3.
    rows = [gained(1.0, -2.0, 2.5, 2.5), gained(2.0, 4.0, 1.0, 1.0), gained(3.0, 3.0, 3.0, 3.0)]
    order = claims(rows, ["AP"]).orders[0]
    assert (order.tau, order.lowest) == (1.0, pytest.approx(1 / 3))
    one_seed = claims([gained(1.0, 1.0), gained(2.0, 2.0), gained(3.0, 3.0)], ["AP"]).orders[0]
    assert (one_seed.lowest, one_seed.standing) == (None, Standing.UNDECIDED)


def test_orders_are_told_within_each_group_and_over_all() -> None:
    rows = [gained(rank, rank, rank + 1, row=f"{base}{rank}", baseline=base) for base in ("x", "y") for rank in (1.0, 2.0, 3.0)]
    assert [(order.baseline, order.rows) for order in claims(rows, ["AP"]).orders] == [("x", 3), ("y", 3), (None, 6)]


def a_paper() -> tuple[list[Row], list[Trial]]:
    """A baseline and three methods with published AP; the third was never run."""
    rows = [
        row("base", "baseline", published={"AP": published(38.4), "AP50": published(59.0)}),
        row("good", "distilled", baseline="base", published={"AP": published(41.5), "AP50": published(62.2)}),
        row("weak", "distilled", baseline="base", published={"AP": published(38.7), "AP50": published(59.0)}),
        row("none", "distilled", 0, baseline="base", published={"AP": published(40.0)}),
    ]
    measured = [*trials("base", 38.3, 38.4, 38.5), *trials("good", 41.2, 41.4, 41.4), *trials("weak", 38.2, 38.8, 38.4)]
    return rows, measured


def test_gains_of_a_paper_are_the_differences_of_its_printed_numbers() -> None:
    rows, measured = a_paper()
    made = table(rows, measured)
    assert made.claims.headline == "AP"
    assert [(gain.row, gain.metric, gain.published, gain.standing) for gain in made.claims.gains] == [
        ("good", "AP", 3.1, Standing.HOLDS),
        ("good", "AP50", 3.2, Standing.HOLDS),
        ("weak", "AP", 0.3, Standing.UNDECIDED),
        ("none", "AP", 1.6, Standing.MISSING),
    ]
    counts = summary(made)
    assert (counts.gains[Standing.HOLDS], counts.gains[Standing.UNDECIDED], counts.gains[Standing.MISSING]) == (2, 1, 1)
    # AP50 is 20 above AP here: 58.4 for 59.0 is off, 61.3 for 62.2 too, 58.5 +-0.8 holds 59.0
    assert counts.cells == {Verdict.REPRODUCED: 4, Verdict.OFF: 2, Verdict.NOT_COMPARABLE: 0, Verdict.MISSING: 1}


def test_claims_are_told_at_every_scale() -> None:
    rows, measured = a_paper()
    made = table(rows, measured, comparable="scale nano trains narrow networks on other data")
    assert summary(made).cells[Verdict.NOT_COMPARABLE] == 7
    assert summary(made).gains[Standing.HOLDS] == 2
    lines = [[field.strip() for field in line.split("|")[1:-1]] for line in render(made, "md").splitlines()]
    assert ["good", "base", "+3.1", "+2.9 ±0.1", "3", "<0.001", "holds"] in lines
