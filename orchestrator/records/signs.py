"""The last sign of life of each trial inside an epoch: for those who watch, and for MLflow.

Only the newest is kept, in the trial, in the events and in the outbox, and nobody waits for one.
"""

from typing import Any

from orchestrator.machine import TrialState
from orchestrator.records.leases import holds
from orchestrator.records.progress import finite
from orchestrator.records.schema import Event, Outbox
from orchestrator.records.unit import Units

SIGN = 0  # the epoch of a row of the outbox that is about a sign of life: epochs count from 1


class Signs(Units):
    """Units of work of a driver, each one transaction. One that fails is no loss: the next sign comes soon."""

    def record_sign(self, study_id: int, attempt: int, name: str, sign: dict[str, Any], fence: int) -> None:
        """sign: `epoch` and `step` (1-based), of how many `epochs` and `steps`, and `metrics`. Takes the place of the one before, its event
        too. Raises LeaseLost."""
        with self._unit(study_id, attempt) as unit:
            trial = unit.trial(name)
            if not holds(unit, trial, fence) or trial.state != TrialState.RUNNING:
                return
            before = trial.sign or {}
            told = Event(study_id=study_id, kind="step", data={"trial": name, **sign, "metrics": finite(sign["metrics"])}, time=unit.now)
            unit.session.add(told)
            waiting = before.get("outbox") and unit.session.get(Outbox, before["outbox"])
            row = waiting or Outbox(study_id=study_id, trial_id=trial.id, epoch=SIGN, time=unit.now)
            unit.session.add(row)
            unit.forget_sign(trial)
            unit.session.flush()
            trial.sign = {**sign, "metrics": told.data["metrics"], "time": unit.now, "event": told.id, "outbox": row.id}
