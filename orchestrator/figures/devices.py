"""Who had which devices when: a lane for each device, a bar for each stay of a trial on it, a colour for each owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.broker.cluster import Resources
from orchestrator.broker.simulation import Span
from orchestrator.figures.style import COLOURS, canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LANE_INCHES, MOST_LANES = 0.14, 64


def lanes(spans: Sequence[Span], nodes: Mapping[str, Resources]) -> dict[int, list[Span]]:
    """The stays on each GPU, numbered node by node; which of its node's GPUs a trial has is drawn up as it comes."""
    first, count = {}, 0
    for node, has in nodes.items():
        first[node] = count
        count += int(has.gpus)
    found: dict[int, list[Span]] = {lane: [] for lane in range(count)}
    busy = [0.0] * count
    for span in sorted(spans, key=lambda each: (each.start, -each.end)):
        for node in span.nodes:
            for _ in range(round(span.need.each.gpus)):
                lane = next(n for n in range(first[node], first[node] + int(nodes[node].gpus)) if busy[n] <= span.start + 1e-6)
                busy[lane] = span.end
                found[lane].append(span)
    return found


def draw(spans: Sequence[Span], nodes: Mapping[str, Resources]) -> Figure:
    """Of the first MOST_LANES GPUs. A bar with a dark end made room for another."""
    of_lane = {lane: stays for lane, stays in lanes(spans, nodes).items() if lane < MOST_LANES}
    owners = sorted({span.owner for span in spans})
    colour = {owner: COLOURS[n % len(COLOURS)] for n, owner in enumerate(owners)}
    figure = canvas(9.0, 1.2 + LANE_INCHES * len(of_lane))
    axes = figure.subplots()
    for owner in owners:
        mine = [(lane, span) for lane, stays in of_lane.items() for span in stays if span.owner == owner]
        hours = [(span.end - span.start) / 3600 for _, span in mine]
        began = [span.start / 3600 for _, span in mine]
        edges = ["black" if span.preempted else "white" for _, span in mine]
        axes.barh(
            [lane for lane, _ in mine], hours, left=began, height=0.9, color=colour[owner], edgecolor=edges, linewidth=0.3, label=owner
        )
    axes.set_xlabel("hours")
    axes.set_ylabel("GPU")
    axes.set_ylim(len(of_lane) - 0.5, -0.5)
    axes.grid(False)
    axes.legend(ncols=len(owners), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure
