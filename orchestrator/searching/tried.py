"""What a search has tried: each combination with what it came to, and which of them are the best. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestrator.reporting.statistics import estimate
from studies.catalog import wants_less
from studies.spec import Objective


class Outcome(StrEnum):
    """How the trainings of a combination ended."""

    DONE = "done"  # all of them, with their results
    STOPPED = "stopped"  # one at least without promise, so the others too
    FAILED = "failed"  # one at least


@dataclass(frozen=True)
class End:
    """What a combination came to. goals: its value in each objective, where it is done. by_epoch: of the first objective, the mean over its
    trainings, at the epochs that all of them have."""

    outcome: Outcome
    goals: tuple[float, ...] = ()
    by_epoch: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Tried:
    """A combination that a search has drawn for an arm.

    number: from 1. row: id of its row. trials: names of its trainings, one a seed. asked, told: its places in the history of the search,
    in which every drawing and every end has one; told is None until it has its end.
    """

    number: int
    row: str
    values: Mapping[str, Any]
    trials: tuple[str, ...]
    asked: int
    told: int | None = None
    end: End | None = None


@dataclass(frozen=True)
class Training:
    """What an end is made of: a training's state by its name in the machine, its final metrics, its epochs in the first objective."""

    ended: bool
    stopped: bool
    metrics: Mapping[str, float] | None
    by_epoch: Mapping[int, float]


def end_of(trainings: Sequence[Training], objectives: Sequence[Objective]) -> End | None:
    """What a combination came to; None while a training has no end. One that lacks an objective has failed."""
    if not all(training.ended for training in trainings):
        return None
    if any(training.stopped for training in trainings):
        reached = [training.by_epoch for training in trainings if training.by_epoch]
        epochs = sorted(set.intersection(*(set(each) for each in reached))) if reached else []
        return End(Outcome.STOPPED, (), {epoch: sum(each[epoch] for each in reached) / len(reached) for epoch in epochs})
    goals = [_goal(objective, [(training.metrics or {}).get(objective.metric) for training in trainings]) for objective in objectives]
    if any(goal is None for goal in goals):
        return End(Outcome.FAILED)
    return End(Outcome.DONE, tuple(goal for goal in goals if goal is not None))


def _goal(objective: Objective, values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None and math.isfinite(value)]
    if len(found) < len(values):
        return None
    over = estimate(dict(enumerate(found)))
    if objective.over == "mean":
        return over.mean
    side = 1 if wants_less(objective.metric) else -1
    return None if over.half_width is None else over.mean + side * over.half_width


def best(tried: Iterable[Tried], objectives: Sequence[Objective]) -> list[Tried]:
    """The best of those that are done, the earliest where two are equal; of several objectives the Pareto front, by the first."""
    done = [each for each in tried if each.end and each.end.outcome == Outcome.DONE]
    scored = [(each, _score(each, objectives)) for each in sorted(done, key=lambda each: each.number)]
    front: list[tuple[Tried, tuple[float, ...]]] = []
    for each, score in scored:
        beaten = any(_beats(other, score) for _, other in scored) or any(score == other for _, other in front)
        if not beaten:
            front.append((each, score))
    return [each for each, score in sorted(front, key=lambda entry: entry[1], reverse=True)]


def _score(tried: Tried, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """More is better in each."""
    assert tried.end
    return tuple(-goal if wants_less(wanted.metric) else goal for goal, wanted in zip(tried.end.goals, objectives, strict=True))


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine >= theirs for mine, theirs in zip(one, other, strict=True))
