"""The searches of a study as its driver goes on with them: drawings when there is room for them, ends, trainings to stop, and the best.

All that is decided follows from the records, and each step is recorded before the next: a driver that starts anew goes on where the
last one was.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.records.store import Store
from orchestrator.searching.rungs import Epoch, Rungs
from orchestrator.searching.sampling import Sampling
from orchestrator.searching.tried import End, Tried, best, end_of
from studies.expand import Expander, searched
from studies.recipes import RECIPES
from studies.space import factors_of, planned, told
from studies.spec import StudySpec
from studies.tables.present import baseline_of, row_of
from studies.trial import TrialFailure

log = logging.getLogger(__name__)


class Searching:
    """All searches of a study. over: they add nothing any more."""

    def __init__(self, store: Store, study_id: int, attempt: int, spec: StudySpec) -> None:
        assert spec.search
        self.store, self.study_id, self.attempt = store, study_id, attempt
        self.spec, self.search = spec, spec.search
        self.expander = Expander(spec)
        self.expansion = self.expander.expansion()
        self.arms = {arm.id: arm for arm in spec.arms if searched(self.search, arm)}
        known = store.tried(study_id)
        self.tried = {arm: known.get(arm, []) for arm in self.arms}
        drawn = [(tried.asked, arm, tried) for arm, each in self.tried.items() for tried in each]
        for _, arm, tried in sorted(drawn, key=lambda entry: entry[0]):
            self.expander.tried(self.arms[arm], tried.number, dict(tried.values))
        self.sampling = {arm: Sampling(self.search, arm, self.tried[arm]) for arm in self.arms}
        for arm, sampling in self.sampling.items():
            if not sampling.as_recorded:
                log.warning("the search of %s goes on from what was tried, as its drawings are another Optuna's", arm)
        self.found = {search.arm for search in store.presentation(study_id).searches if search.found}
        self.arm_of = {name: arm for arm in self.arms for tried in self.tried[arm] for name in tried.trials}
        self.rungs = {arm: self._rungs(arm) for arm in self.arms} if self.search.scheduler != "none" else {}
        self.over = False

    @classmethod
    def of(cls, store: Store, study_id: int, attempt: int, spec: Mapping[str, Any]) -> "Searching":
        """Of a stored study. Raises TrialFailure where the catalogue no longer has what it names."""
        try:
            return cls(store, study_id, attempt, StudySpec.model_validate(spec))
        except ValueError as error:
            raise TrialFailure("user", f"its search cannot go on, as the catalogue has changed: {error}") from None

    # --- drawings and ends

    def step(self) -> bool:
        """Draws while there is room, records ends one by one, and the best when all have theirs; whether trials were added."""
        added = False
        for arm in self.arms:
            added = self._draw(arm) or added
            while ended := self._ended(arm):
                self._tell(arm, *ended)
                added = self._draw(arm) or added
            if self._complete(arm) and arm not in self.found:
                added = self._confirm(arm) or added
        if not self.over and self.found >= self.arms.keys():
            self.store.end_search(self.study_id, self.attempt)
            self.over = True
        return added

    def _open(self, arm: str) -> list[Tried]:
        return [tried for tried in self.tried[arm] if tried.end is None]

    def _complete(self, arm: str) -> bool:
        return len(self.tried[arm]) >= planned(self.search) and not self._open(arm)

    def _draw(self, arm: str) -> bool:
        """Combinations up to those that are tried at once; whether there were any."""
        drawn = False
        while len(self.tried[arm]) < planned(self.search) and len(self._open(arm)) < self.search.parallel:
            number = len(self.tried[arm]) + 1
            values = self.sampling[arm].ask()
            grown = self.expander.tried(self.arms[arm], number, values)
            tried = self.store.record_drawing(self.study_id, self.attempt, arm, number, values, grown)
            if tried is None:
                return drawn
            self.tried[arm].append(tried)
            self.arm_of |= dict.fromkeys(tried.trials, arm)
            drawn = True
        return drawn

    def _ended(self, arm: str) -> tuple[Tried, End] | None:
        """The combination whose trainings ended first, of those whose end is not recorded."""
        open_ = self._open(arm)
        wanted = [name for tried in open_ for name in tried.trials]
        known = self.store.trainings(self.study_id, wanted, self.search.objective[0].metric) if wanted else {}
        ended = []
        for tried in open_:
            mine = [known[name] for name in tried.trials]
            if end := end_of([training for training, _ in mine], self.search.objective):
                ended.append((max(time for _, time in mine), tried.number, tried, end))
        return min(ended)[2:] if ended else None

    def _tell(self, arm: str, tried: Tried, end: End) -> None:
        self.tried[arm][tried.number - 1] = self.store.record_end(self.study_id, self.attempt, arm, tried.number, end)
        self.sampling[arm].tell(tried.number, end)

    def _confirm(self, arm: str) -> bool:
        """The best, with fresh seeds; nothing where no combination came to its end."""
        found = []
        for tried in best(self.tried[arm], self.search.objective):
            grown = self.expander.confirmed(self.arms[arm], tried.number, dict(tried.values))
            row = row_of(grown.row, grown.measured_by, baseline_of(grown.row, self.expansion.rows))
            title = f"{self.arms[arm].title or arm} [best of {len(self.tried[arm])}: {told(tried.values)}]"
            found.append((grown, row.model_copy(update={"title": title})))
        if not self.store.record_found(self.study_id, self.attempt, arm, found):
            return False
        self.found.add(arm)
        return bool(found)

    # --- trainings without promise

    def judge(self, trial: str, epoch: int, epochs: int, metrics: Mapping[str, float]) -> bool:
        """Whether a training stops after this epoch: its scheduler says so, or a training of the same combination was stopped."""
        arm = self.arm_of.get(trial)
        value = metrics.get(self.search.objective[0].metric)
        if arm not in self.rungs or value is None or not math.isfinite(value):
            return False
        stopped = self.rungs[arm].judge(Epoch(trial, epoch, epochs, value))
        return stopped or (epoch < epochs and any(self.rungs[arm].stopped(name) for name in self._siblings(trial)))

    def stopped(self) -> list[str]:
        """Trainings without promise that an earlier driver may not have recorded, and those that share a combination with one."""
        without = [name for arm in self.rungs for tried in self._open(arm) for name in tried.trials if self.rungs[arm].stopped(name)]
        return list(dict.fromkeys([*without, *(other for name in without for other in self._siblings(name))]))

    def _siblings(self, trial: str) -> Iterable[str]:
        """The other trainings of a combination."""
        tried = next((tried for tried in self._open(self.arm_of[trial]) if trial in tried.trials), None)
        return [name for name in tried.trials if name != trial] if tried else []

    def with_siblings(self, trial: str) -> list[str]:
        """A training and the others of its combination."""
        return [trial, *self._siblings(trial)]

    def _rungs(self, arm: str) -> Rungs:
        recorded = self.store.epochs_in_order(self.study_id, self.search.objective[0].metric)
        return Rungs(self.search, self._longest(arm), [Epoch(*each) for each in recorded if self.arm_of.get(each[0]) == arm])

    def _longest(self, arm: str) -> int:
        """Epochs of the longest training that may be drawn."""
        default = next(row for row in self.expansion.rows if row.id == arm).schedule.epochs or 1
        factors = {factor.path: factor.values for factor in factors_of(self.search)}
        of_recipes = [RECIPES[name].epochs for name in factors.get("schedule.recipe", ()) if name in RECIPES]
        return max([default, *map(int, factors.get("schedule.epochs", ())), *of_recipes])
