"""Sentences that several formats print: a table's head, its legend, and its claims in words."""

from collections.abc import Iterable
from itertools import groupby

from orchestrator.reporting.claims import OrderClaim, Standing
from orchestrator.reporting.rendering.numbers import MARKS, difference, places, signed
from orchestrator.reporting.summary import summary
from orchestrator.reporting.table import Row, Table
from orchestrator.reporting.verdicts import Verdict
from studies.presentation import Column

MEANINGS = {
    Verdict.REPRODUCED: "reproduced (within the tolerance, or the published number lies in the 95% interval)",
    Verdict.OFF: "off",
    Verdict.NOT_COMPARABLE: "not comparable",
}


def place(table: Table) -> str:
    """ "study 3, digits, scale nano"."""
    return f"study {table.study}, {table.dataset}, scale {table.scale}"


def legend(table: Table, marked: bool = True) -> list[str]:
    """How cells with published numbers are read; nothing for a table without. marked: with `MARKS` in the place of verdicts."""
    printed = [printed for row in table.shown for printed in row.printed.values()]
    if not printed:
        return []
    used = [verdict for verdict in MEANINGS if marked and any(each.verdict == verdict for each in printed)]
    marks = "".join(f" {MARKS[verdict]} {MEANINGS[verdict]}." for verdict in used)
    missed = " (difference)" if {Verdict.REPRODUCED, Verdict.OFF} & {each.verdict for each in printed} else ""
    star = " * see the remarks." if any(each.remarked for each in printed) else ""
    return [f"published → measured{missed}.{marks}{star}"]


def links(table: Table) -> list[str]:
    """Where its runs are to be seen."""
    return [f"Runs: {table.url}"] if table.url else []


def groups(table: Table) -> Iterable[tuple[str | None, list[Row]]]:
    """The shown rows under their headings, in their order."""
    return [(heading, list(rows)) for heading, rows in groupby(table.shown, key=lambda row: row.group)]


def gain_lines(table: Table) -> list[list[str]]:
    """Row, over, published gain, measured gain, n, p, standing: of the headline metric. Empty without published gains."""
    column = headline(table)
    if column is None:
        return []
    names = table.name_of
    return [
        [
            names[gain.row],
            names[gain.baseline],
            signed(gain.published, places(gain.published, column)),
            difference(gain.measured, column) if gain.measured else "–",  # noqa: RUF001
            str(gain.measured.n) if gain.measured else "0",
            probability(gain.measured.p) if gain.measured else "",
            gain.standing,
        ]
        for gain in table.claims.gains
        if gain.metric == column.metric
    ]


GAIN_HEADER = ["gain of", "over", "published", "measured", "n", "p", "claim"]


def headline(table: Table) -> Column | None:
    """The column whose gains are printed."""
    return next((column for column in table.columns if column.metric == table.claims.headline), None)


def order_lines(table: Table) -> list[str]:
    """A sentence for each order of methods in the headline metric."""
    return [_order(table, order) for order in table.claims.orders if order.metric == table.claims.headline]


def _order(table: Table, order: OrderClaim) -> str:
    where = f" over {table.name_of[order.baseline]}" if order.baseline else " of the whole table"
    sure = (
        "no two seeds"
        if order.lowest is None
        else f"{order.lowest:.2f} to {order.highest:.2f} when any one of {order.seeds} seeds is left out"
    )
    return f"Order of {order.rows} gains{where}: Kendall's τ {order.tau:.2f} (p {probability(order.p)}; {sure}): {order.standing}."


def probability(p: float | None) -> str:
    """ "0.21", "0.003", "<0.001"; nothing without one."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.2f}" if p >= 0.1 else f"{p:.3f}"


def counted(table: Table) -> str | None:
    """The verdicts and claims of a table in a sentence; None without published numbers."""
    if not table.judged:
        return None
    counts = summary(table)
    cells = ", ".join(f"{count} {verdict}" for verdict, count in counts.cells.items() if count)
    gains = ", ".join(f"{count} {'hold' if standing == Standing.HOLDS else standing}" for standing, count in counts.gains.items() if count)
    return f"Published numbers: {cells or 'none is judged'}." + (f" Signs of published gains, all metrics: {gains}." if gains else "")
