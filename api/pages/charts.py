"""Charts as data: what the templates draw as SVG (gains, timeline), and what the script draws as curves. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.pages.reading import Bar
from orchestrator.reporting.statistics import Estimate
from orchestrator.reporting.table import Row, Table
from studies.presentation import Column

FOREST_WIDTH = 400  # units of the drawing; every mark lies within
MARGIN = 8
TIME_WIDTH = 1000
LANE = 14  # units high


@dataclass(frozen=True)
class Gain:
    """A row of the forest plot. at, low, high, published: places on its axis from 0 to FOREST_WIDTH."""

    row: Row
    gain: Estimate | None
    printed: float | None
    at: float | None
    low: float | None
    high: float | None
    published: float | None


@dataclass(frozen=True)
class Forest:
    """Gains in one metric. zero: the place of no gain; least, greatest: what the axis goes from and to."""

    column: Column
    gains: list[Gain]
    zero: float
    least: float
    greatest: float
    any_published: bool


@dataclass(frozen=True)
class Lane:
    """A line of the timeline: jobs one after the other. device: where they ran, told on the first of its lanes alone."""

    y: int
    device: str


@dataclass(frozen=True)
class Placed:
    """A job on the timeline, in units of the drawing."""

    bar: Bar
    x: float
    y: int
    width: float


@dataclass(frozen=True)
class Timeline:
    """When jobs ran, a lane for each that ran at the same time. left_out: older ones that are not shown."""

    lanes: list[Lane]
    placed: list[Placed]
    height: int
    begins: int
    ends: int
    left_out: int


def forest(table: Table, rows: Sequence[Row], metric: str | None) -> Forest | None:
    """Gains of rows over their baselines, measured and published; None where there is none."""
    column = next((column for column in table.columns if column.metric == metric), None)
    if column is None:
        return None
    found = []
    for row in rows:
        cell, printed = row.cells.get(column.metric), row.printed.get(column.metric)
        gain, published = cell.gain if cell else None, printed.gain if printed else None
        if gain or published is not None:
            found.append((row, gain, published))
    if not found:
        return None
    ends = [0.0]
    for _, gain, published in found:
        if gain:
            ends += [gain.mean - (gain.half_width or 0), gain.mean + (gain.half_width or 0)]
        if published is not None:
            ends.append(published)
    least, greatest = min(ends), max(ends)
    if least == greatest:
        least, greatest = -1.0, 1.0

    def place(value: float) -> float:
        return round(MARGIN + (value - least) / (greatest - least) * (FOREST_WIDTH - 2 * MARGIN), 1)

    gains = [
        Gain(
            row=row,
            gain=gain,
            printed=published,
            at=place(gain.mean) if gain else None,
            low=place(gain.mean - gain.half_width) if gain and gain.half_width is not None else None,
            high=place(gain.mean + gain.half_width) if gain and gain.half_width is not None else None,
            published=place(published) if published is not None else None,
        )
        for row, gain, published in found
    ]
    return Forest(column, gains, place(0.0), least, greatest, any(published is not None for _, _, published in found))


def timeline(bars: Sequence[Bar], total: int) -> Timeline | None:
    """Jobs packed into as few lanes as their device needs; None where none ran."""
    if not bars:
        return None
    begins, ends = min(bar.started for bar in bars), max(bar.ended for bar in bars)
    scale = TIME_WIDTH / max(1, ends - begins)
    lanes: list[Lane] = []
    placed: list[Placed] = []
    for device in sorted({bar.device for bar in bars}):
        free: list[int] = []  # of each lane of the device: when its last job ends
        first = len(lanes)
        for bar in (bar for bar in bars if bar.device == device):
            lane = next((number for number, until in enumerate(free) if until <= bar.started), len(free))
            if lane == len(free):
                free.append(0)
                lanes.append(Lane((first + lane) * LANE, device if lane == 0 else ""))
            free[lane] = max(bar.ended, bar.started + 1)
            x = (bar.started - begins) * scale
            placed.append(Placed(bar, round(x, 1), (first + lane) * LANE, round(max(2.0, (bar.ended - bar.started) * scale - 1), 1)))
    return Timeline(lanes, placed, len(lanes) * LANE, begins, ends, total - len(bars))


def curves(rows: Sequence[Row], epochs: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    """Of each row over the epochs that all of its seeds have: mean, least and greatest; null where it has none.

    {"epochs": [1, 2, ...], "rows": [{"id", "title", "seeds", "mean": [...], "low": [...], "high": [...]}]}
    """
    known = {row.id: [values for run in row.runs if (values := epochs.get(run.trial))] for row in rows}
    every = sorted({epoch for seeds in known.values() for values in seeds for epoch in values})
    drawn = []
    for row in rows:
        seeds = known[row.id]
        if not seeds:
            continue
        at = [[values[epoch] for values in seeds] if all(epoch in values for values in seeds) else None for epoch in every]
        drawn.append(
            {
                "id": row.id,
                "title": row.title,
                "seeds": len(seeds),
                "mean": [sum(values) / len(values) if values else None for values in at],
                "low": [min(values) if values else None for values in at],
                "high": [max(values) if values else None for values in at],
            }
        )
    return {"epochs": every, "rows": drawn}
