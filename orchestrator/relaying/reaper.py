"""Ends runs that MLflow shows as running though the database knows better."""

import logging
from collections.abc import Iterator
from typing import Any

from mlflow import MlflowClient

from orchestrator.records.store import Store
from orchestrator.relaying.client import in_batches
from orchestrator.relaying.runs import ID_TAG, study_identity

log = logging.getLogger(__name__)


class Reaper:
    """Ends runs that MLflow shows as running though the database knows better: their relay died, or they lost their trial."""

    name = "reaper"
    interval = 15.0
    listens = False

    def __init__(self, store: Store, client: MlflowClient) -> None:
        self.store, self.client = store, client
        self._strange: set[str] = set()  # runs no trial owned last time; one being made right now looks the same

    def step(self) -> None:
        strange = set()
        for run in self._running():
            owner = self.store.owner_of_run(run.info.run_id)
            if owner is None:
                strange.add(run.info.run_id)
                if run.info.run_id in self._strange:
                    log.info("run %s belongs to no trial any more", run.info.run_id)
                    self.client.set_terminated(run.info.run_id, "KILLED")
            elif owner.final and not self.store.outbox(owner.study_id, 1):
                self.store.tell_mlflow_again(owner.study_id, owner.trial_id)
        self._strange = strange

    def _running(self) -> Iterator[Any]:
        """Running runs of this database's studies (their identity starts with the study's)."""
        mine = {study_identity(study): study.experiment for study in self.store.studies_with_run()}
        for experiments in in_batches(sorted({experiment for experiment in mine.values() if experiment}), 50):
            runs = self.client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1000)
            yield from (run for run in runs if run.data.tags.get(ID_TAG, "").partition("/")[0] in mine)
