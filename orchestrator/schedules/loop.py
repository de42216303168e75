"""Submits what schedules are due, and compares what came to its end: a loop of the service that holds nothing itself."""

import contextlib

from orchestrator.machine import IllegalMove
from orchestrator.records.store import Store
from orchestrator.schedules.due import Replace
from orchestrator.schedules.store import Schedules


class Cron:
    """Reconciles schedules with the clock. Killed at any line, it goes on from the database."""

    name = "schedules"
    interval = 1.0
    listens = False

    def __init__(self, store: Store) -> None:
        self.store, self.schedules = store, Schedules(store)

    def step(self) -> None:
        troubles: list[Exception] = []
        for schedule_id, due in self.schedules.unsettled():
            try:
                self.schedules.settle(schedule_id, due)
            except Exception as trouble:  # one schedule's trouble keeps no other from its time
                troubles.append(trouble)
        for schedule_id in self.schedules.pressing():
            try:
                self._keep(schedule_id)
            except Exception as trouble:
                troubles.append(trouble)
        if troubles:
            raise troubles[0]

    def _keep(self, schedule_id: int) -> None:
        """All that one schedule is due."""
        while decision := self.schedules.act(schedule_id):
            if isinstance(decision, Replace):
                for study in decision.studies:
                    with contextlib.suppress(IllegalMove):  # it has come to its end meanwhile
                        self.store.request_cancel(study)
