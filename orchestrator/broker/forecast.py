"""When trials that wait are thought to start: the queue played through in order, each trial as soon as it fits. Pure."""

import heapq
from collections.abc import Mapping

from orchestrator.broker.cluster import Free, Need, Placement, give, misfit, place, take
from orchestrator.broker.situation import Decision, Situation

LOOKED_AT = 50  # trials at the head of the queue that are tried whenever devices become free


def forecast(situation: Situation, decision: Decision) -> dict[int, float]:
    """By study the time at which its next trial is thought to start. Studies behind a trial whose time nobody knows are left out."""
    granted = {grant.trial: grant.nodes for grant in decision.grants}
    free: Free = dict(situation.nodes)
    ends: list[tuple[float, int, bool, Need, Placement]] = []  # when, whose devices come free, and whether that is known

    def occupy(trial: int, need: Need, nodes: Placement, start: float, seconds: float | None) -> None:
        take(free, need, nodes)
        heapq.heappush(ends, (start + (seconds or 0.0), trial, seconds is not None, need, nodes))

    for running in situation.running:
        occupy(running.id, running.need, running.nodes, situation.now, running.remaining)
    for trials in situation.ready.values():
        for trial in trials:
            if trial.id in granted:
                occupy(trial.id, trial.need, granted[trial.id], situation.now, trial.seconds)
    fits: dict[Need, bool] = {}
    queue = []
    for study in _in_order(situation, decision.waits):
        for trial in situation.ready[study]:
            if trial.id not in granted and fits.setdefault(trial.need, misfit(trial.need, situation.nodes) is None):
                queue.append(trial)
    starts: dict[int, float] = {}
    while queue and ends:
        now, _, known, need, nodes = heapq.heappop(ends)
        if not known:
            break
        give(free, need, nodes)
        for trial in queue[:LOOKED_AT]:
            where = place(trial.need, free)
            if where:
                queue.remove(trial)
                starts.setdefault(trial.study, now)
                occupy(trial.id, trial.need, where, now, trial.seconds)
    return starts


def _in_order(situation: Situation, waits: Mapping[int, str]) -> list[int]:
    """Studies with ready trials: those that wait, in the order in which the broker came to them."""
    waiting = [study for study in waits if study in situation.ready]
    return [*waiting, *(study for study in situation.ready if study not in waits)]
