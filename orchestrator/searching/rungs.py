"""Which trainings of a searched arm are stopped early, by Ray Tune's own schedulers, rebuilt from recorded epochs whenever a driver starts.

Tune's scheduler is asked epoch by epoch, in the order in which epochs are recorded, so what it knows is a function of that order alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from studies.catalog import wants_less
from studies.spec import Search

BRACKETS = 3  # of hyperband: the first stops from `grace` on, the next ones later and fewer
LEAST = 3  # trainings whose median one is compared with


@dataclass(frozen=True)
class Epoch:
    """A recorded epoch of a training: its number from 1, of how many, and the metric that the search is for."""

    trial: str
    epoch: int
    epochs: int
    value: float


@dataclass(frozen=True)
class _Known:
    """What Tune's schedulers read of a Tune trial."""

    trial_id: str


class _Nobody:
    """What they ask of Tune's controller: whether others wait for a device. That is the broker's business."""

    def get_live_trials(self) -> list[object]:
        return []


class Rungs:
    """One scheduler for one searched arm."""

    def __init__(self, search: Search, longest: int, recorded: Iterable[Epoch] = ()) -> None:
        """longest: epochs of the longest training. recorded: what is known already, in the order in which it was recorded."""
        self.search = search
        self._scheduler = _scheduler(search, longest)
        self._added: dict[str, _Known] = {}
        self._seen: set[tuple[str, int]] = set()
        self._stopped: set[str] = set()
        for each in recorded:
            self.judge(each)

    def judge(self, done: Epoch) -> bool:
        """Whether the training is to stop after this epoch. One that was judged before changes nothing."""
        if (done.trial, done.epoch) in self._seen:
            return self.stopped(done.trial)
        self._seen.add((done.trial, done.epoch))
        trial = self._added.get(done.trial) or self._add(done.trial)
        decision = self._scheduler.on_trial_result(_Nobody(), trial, {"epoch": done.epoch, "value": done.value})
        if decision == TrialScheduler.STOP and done.epoch < done.epochs:  # after its last epoch it is at its end anyhow
            self._stopped.add(done.trial)
        return self.stopped(done.trial)

    def stopped(self, trial: str) -> bool:
        """Whether the training is to stop, or was stopped."""
        return trial in self._stopped

    def _add(self, name: str) -> _Known:
        """A training that is new: hyperband draws its bracket, by numpy's global generator, from how many there were before it."""
        trial = self._added[name] = _Known(name)
        state = np.random.get_state()
        np.random.seed([self.search.seed, len(self._added)])
        try:
            self._scheduler.on_trial_add(_Nobody(), trial)
        finally:
            np.random.set_state(state)
        return trial


def _scheduler(search: Search, longest: int) -> TrialScheduler:
    mode = "min" if wants_less(search.objective[0].metric) else "max"
    asked = {"time_attr": "epoch", "metric": "value", "mode": mode, "grace_period": search.grace}
    if search.scheduler == "median":
        return MedianStoppingRule(**asked, min_samples_required=LEAST)
    brackets = BRACKETS if search.scheduler == "hyperband" else 1
    rungs = int(np.log(max(longest, search.grace) / search.grace) / np.log(search.reduction)) + 1
    return AsyncHyperBandScheduler(
        **asked,
        max_t=max(longest, search.grace),
        reduction_factor=search.reduction,
        brackets=min(brackets, rungs),
        stop_last_trials=False,
    )
