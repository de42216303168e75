"""How long trials are thought to take, and what hangs on them: from the times of finished trials that are like them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.broker.decide import UNKNOWN_SECONDS
from orchestrator.broker.paths import chains
from orchestrator.estimates import trained
from orchestrator.records.queue import Asked
from orchestrator.records.schema import Trial
from orchestrator.records.store import Store
from studies.spec import Network, Resources, Schedule

MEASUREMENT_SECONDS = 300.0  # of a measurement, which trains nothing
FRESH_SECONDS = 60.0  # so long an estimate stands before it is made anew


@dataclass(frozen=True)
class Estimate:
    """Of one trial, from its start to its end. path: seconds of the longest chain of trials that begins with it."""

    seconds: float | None
    path: float


class Estimates:
    """Estimates of all open studies' trials, looked up once a minute."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._studies: dict[int, tuple[float, dict[int, Estimate]]] = {}
        self._histories: dict[tuple[str, str], tuple[float, Sequence[Trial]]] = {}

    def of(self, study: int, asked: Asked, trial: int) -> Estimate:
        """Of a trial of a study."""
        made, found = self._studies.get(study, (-FRESH_SECONDS, {}))
        if trial not in found or time.monotonic() - made >= FRESH_SECONDS:
            found = self._made(study, asked)
            self._studies[study] = time.monotonic(), found
        return found[trial]

    def forget_all_but(self, studies: set[int]) -> None:
        """Studies that are over need no estimates."""
        self._studies = {study: found for study, found in self._studies.items() if study in studies}

    def _made(self, study: int, asked: Asked) -> dict[int, Estimate]:
        makeup = self.store.makeup(study)
        of_arm = {arm.id: self._seconds(asked, arm.detail) for arm in self.store.arms(study)}
        seconds = {trial: MEASUREMENT_SECONDS if arm is None else of_arm[arm] for trial, (arm, _) in makeup.items()}
        told = {str(trial): UNKNOWN_SECONDS if known is None else known for trial, known in seconds.items()}
        paths = chains(told, {str(trial): [str(each) for each in needs] for trial, (_, needs) in makeup.items()})
        return {trial: Estimate(seconds[trial], paths[str(trial)]) for trial in makeup}

    def _seconds(self, asked: Asked, detail: dict[str, Any]) -> float | None:
        try:
            network, schedule = Network.model_validate(detail["network"]), Schedule.model_validate(detail["schedule"])
        except ValueError:  # of a catalogue that had what this one has not: the driver tells
            return None
        weights, uses = detail.get("weights"), tuple(use["id"] for use in detail["distillers"])
        resources = Resources.model_validate(asked.resources)
        found = trained(self._history(asked), resources, network, schedule, weights, uses)
        return found.seconds if found else None

    def _history(self, asked: Asked) -> Sequence[Trial]:
        alike = asked.dataset, asked.scale
        made, found = self._histories.get(alike, (-FRESH_SECONDS, ()))
        if time.monotonic() - made >= FRESH_SECONDS:
            found = self.store.history(*alike)
            self._histories[alike] = time.monotonic(), found
        return found
