"""Which combination a search tries next, by Optuna: asked and told in memory, and the same again whenever it is made from the records.

A `Sampling` is a function of (search, arm, history): whoever makes one from the same history is given the same combinations, so a driver
may be killed at any line. Optuna's own storage is not used; docs/decisions.md says why.
"""

import hashlib
import warnings
from collections.abc import Iterable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from orchestrator.searching.tried import End, Outcome, Tried
from studies.catalog import wants_less
from studies.space import WHOLE, Factor, combinations_of, factors_of, label
from studies.spec import Search

optuna.logging.set_verbosity(optuna.logging.WARNING)

STATES = {Outcome.DONE: TrialState.COMPLETE, Outcome.STOPPED: TrialState.PRUNED, Outcome.FAILED: TrialState.FAIL}


FROM_NUMBERS = ("grid", "random", "tpe")  # draw from what was tried, whoever drew it, and a seed: no walk through the history is needed


class Sampling:
    """The search of one arm. as_recorded: the history told what this would have drawn by itself; False where it was drawn by another
    version of Optuna, and is taken as it is."""

    def __init__(self, search: Search, arm: str, history: Iterable[Tried] = ()) -> None:
        self.search, self.arm = search, arm
        self.factors = factors_of(search)
        self.trials: dict[int, optuna.Trial] = {}  # by number, those that were asked
        self.as_recorded = True
        known = sorted(history, key=lambda tried: tried.number)
        if search.algorithm in FROM_NUMBERS:
            self._take(known)
        else:
            self._replay(known)

    def ask(self) -> dict[str, Any]:
        """The next combination, by the factors' names; factors that do not count are not in it."""
        if self.search.algorithm in FROM_NUMBERS or not self.as_recorded:
            self.study.sampler = self._sampler(self._seed(len(self.trials) + 1))
        trial = self.study.ask()
        self.trials[trial.number + 1] = trial
        values: dict[str, Any] = {}
        for factor in self.factors:
            if factor.counts(values):
                values[factor.name] = _drawn(trial, factor)
        return values

    def tell(self, number: int, end: End) -> None:
        """The end of a combination that was asked for."""
        trial = self.trials[number]
        if end.outcome == Outcome.STOPPED:
            for epoch, value in end.by_epoch.items():
                trial.report(value, epoch)
        self.study.tell(trial, list(end.goals) if end.outcome == Outcome.DONE else None, state=STATES[end.outcome])

    # --- from the records

    def _replay(self, history: list[Tried]) -> None:
        """Asks and tells all again in the order in which it was done."""
        self._take([])
        steps = [(tried.asked, tried, False) for tried in history]
        steps += [(tried.told, tried, True) for tried in history if tried.told is not None]
        for _, tried, told in sorted(steps, key=lambda step: step[0]):
            if told:
                assert tried.end
                self.tell(tried.number, tried.end)
            elif self.ask() != dict(tried.values):
                self.as_recorded = False
                self._take(history)
                return

    def _take(self, history: list[Tried]) -> None:
        """Takes combinations as they are recorded."""
        self.study = self._begin()
        for tried in history:
            self.study.add_trial(_frozen(tried, self.factors))
        made = self.study.trials
        self.trials = {tried.number: optuna.Trial(self.study, trial._trial_id) for tried, trial in zip(history, made, strict=True)}
        for point in self._points()[len(history) :]:
            self.study.enqueue_trial({name: label(value) for name, value in point.items()})

    # --- Optuna's

    def _seed(self, number: int = 0) -> int:
        told = f"{self.search.seed}/{self.arm}/{number}"
        return int.from_bytes(hashlib.sha256(told.encode()).digest()[:4], "big")

    def _begin(self) -> optuna.Study:
        return optuna.create_study(
            directions=_directions(self.search), sampler=self._sampler(self._seed()), pruner=optuna.pruners.NopPruner()
        )

    def _points(self) -> list[dict[str, Any]]:
        """Combinations that are tried before any is drawn; of a grid all there are."""
        return list(combinations_of(self.factors)) if self.search.algorithm == "grid" else self.search.first

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        few = self.search.trials or 1
        match self.search.algorithm:
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(4, few // 4)))
            case "cmaes":
                pruned = self.search.scheduler != "none"
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # for learning from stopped trainings
                    return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False, consider_pruned_trials=pruned)
            case "qmc":
                return optuna.samplers.QMCSampler(
                    seed=seed, scramble=True, warn_independent_sampling=False, warn_asynchronous_seeding=False
                )
            case "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed, population_size=min(50, max(4, few // 5)))
            case _:
                return optuna.samplers.RandomSampler(seed=seed)


def _drawn(trial: optuna.Trial, factor: Factor) -> Any:
    """A factor's value."""
    if factor.listed:
        labels = factor.labels
        return labels[trial.suggest_categorical(factor.name, list(labels))]
    low, high = factor.values
    log = factor.way.startswith("log")
    if factor.way in WHOLE:
        return trial.suggest_int(factor.name, low, high, log=log)
    return trial.suggest_float(factor.name, low, high, log=log)


def _frozen(tried: Tried, factors: Iterable[Factor]) -> optuna.trial.FrozenTrial:
    end = tried.end
    return optuna.trial.create_trial(
        state=STATES[end.outcome] if end else TrialState.RUNNING,
        values=list(end.goals) if end and end.outcome == Outcome.DONE else None,
        params={name: label(value) for name, value in tried.values.items()},
        distributions={factor.name: _distribution(factor) for factor in factors if factor.name in tried.values},
        intermediate_values=dict(end.by_epoch) if end and end.outcome == Outcome.STOPPED else None,
    )


def _distribution(factor: Factor) -> BaseDistribution:
    if factor.listed:
        return CategoricalDistribution(list(factor.labels))
    low, high = factor.values
    log = factor.way.startswith("log")
    return IntDistribution(low, high, log=log) if factor.way in WHOLE else FloatDistribution(low, high, log=log)


def _directions(search: Search) -> list[optuna.study.StudyDirection]:
    both = optuna.study.StudyDirection
    return [both.MINIMIZE if wants_less(objective.metric) else both.MAXIMIZE for objective in search.objective]


def as_study(search: Search, history: Iterable[Tried]) -> optuna.Study:
    """What was tried as a study of Optuna's, for its pictures."""
    study = optuna.create_study(directions=_directions(search))
    factors = factors_of(search)
    for tried in sorted(history, key=lambda tried: tried.number):
        study.add_trial(_frozen(tried, factors))
    return study
