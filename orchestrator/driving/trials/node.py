"""Where a trial's process finds and leaves files on its node: in the shared state folder, or in this node's own beside a store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.driving.trials.order import Order
from orchestrator.settings import Settings
from orchestrator.storage.cache import Cache, opened_cache
from orchestrator.storage.files import trial_name
from orchestrator.storage.storage import StorageError
from orchestrator.storage.working import LAST_STATE, Working
from studies.trial import TrialFailure

OF_STATES = {"sampling"}  # kinds of measurement that read the last state of a training, beside its checkpoint


@dataclass(frozen=True)
class Node:
    """This node. cache: of the files that it takes from the store; None where all machines share a folder."""

    settings: Settings
    cache: Cache | None

    @classmethod
    def of(cls, settings: Settings) -> "Node":
        return cls(settings, opened_cache(settings))

    def folder(self, order: Order) -> Path:
        """Where the trial trains."""
        return Path(order.folder) if self.cache is None else self.settings.trials / Path(order.folder).name

    def data(self, digest: str) -> Path:
        """Where a dataset is brought to: a folder for each content, so that none is changed under those who read it."""
        return self.settings.cache / "data" / digest[:16]

    def reference(self, path: Path) -> str:
        """By what others find a file of the trial's folder."""
        return str(path) if self.cache is None else f"{path.parent.name}/{path.name}"

    @contextmanager
    def kept(self, folder: Path, fence: int) -> Iterator[None]:
        """Inside, what is written to the folder is kept where others find it. Raises TrialFailure."""
        if self.cache is None:
            yield
            return
        self.cache.tidy()
        with Working(self.cache, folder, fence).kept():
            try:
                yield
            except StorageError as trouble:
                raise TrialFailure("infra", str(trouble)) from trouble

    def localised(self, spec: dict[str, Any]) -> dict[str, Any]:
        """A spec whose checkpoints are files of this node. Raises StorageError."""
        if self.cache is None:
            return spec
        roles = {role: spec[role] for role in ("teacher", "detector") if spec.get(role)}
        whole = spec.get("kind") in OF_STATES
        return {**spec, **{role: {**each, "checkpoint": str(self._fetched(self.cache, each, whole))} for role, each in roles.items()}}

    def _fetched(self, cache: Cache, checkpoint: dict[str, Any], whole: bool) -> Path:
        """A checkpoint by its digest. whole: beside it the state that its training ended with."""
        folder, name = Path(checkpoint["checkpoint"]).parent.name, Path(checkpoint["checkpoint"]).name
        manifest = cache.storage.manifest(trial_name(folder))
        files = manifest.files if manifest else {}
        file = files.get(name)
        if file is None or file.sha256 != checkpoint["sha256"]:  # trained anew since, to other numbers
            file = cache.storage.object(checkpoint["sha256"])
        path = cache.fetched(file, name)
        if whole and LAST_STATE in files:
            cache.storage.fetch(files[LAST_STATE], path.with_name(LAST_STATE))
        return path
