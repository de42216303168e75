"""A table in numbers: how many of its published numbers are reproduced, and how many of its claims hold."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.reporting.claims import Standing
from orchestrator.reporting.table import Table
from orchestrator.reporting.verdicts import Verdict


@dataclass(frozen=True)
class Summary:
    """cells: published numbers by verdict; those that are never judged are in none. gains: signs of published gains by standing,
    over all metrics. orders: of methods by standing."""

    cells: Mapping[Verdict, int]
    gains: Mapping[Standing, int]
    orders: Mapping[Standing, int]


def summary(table: Table) -> Summary:
    """Of all rows, the hidden ones too."""
    cells = Counter(printed.verdict for row in table.rows for printed in row.printed.values())
    gains = Counter(gain.standing for gain in table.claims.gains)
    orders = Counter(order.standing for order in table.claims.orders)
    return Summary(
        {verdict: cells[verdict] for verdict in Verdict},
        {standing: gains[standing] for standing in Standing},
        {standing: orders[standing] for standing in Standing},
    )
