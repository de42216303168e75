"""The folder that a trial trains in, on a disk of its node, kept in the store: brought back before it starts, sent after every checkpoint.

Checkpoints are sent by a thread of the trial's process, since training would wait minutes for large ones otherwise; one that is replaced
while the one before is under way is sent next, or not at all when a third has come. A node that dies loses what was not sent yet, and the
trial goes on from the checkpoint before. What a trial ends with is sent before its end is told.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from orchestrator.outputs import TRIAL_OUTPUT
from orchestrator.storage.cache import Cache
from orchestrator.storage.files import PROCESS, trial_name
from orchestrator.storage.patience import PATIENCE_SECONDS, patiently
from orchestrator.storage.storage import File, LeaseOver, Manifest, NotStored, StorageError
from studies.trial import CHECKPOINT_NOW, LEAVE_NOW

log = logging.getLogger(__name__)
LAST_STATE = "last.pt"
STATE = {LAST_STATE, TRIAL_OUTPUT}  # what is no result: it is replaced, and kept for who goes on from it or reads it
OF_NODE = {"lock", "fence", "lease", PROCESS}  # what is of this node alone
ASKED = {CHECKPOINT_NOW, LEAVE_NOW}  # notes that become files in the folder, for the training to find
LOOK_SECONDS = 3.0
OUTPUT_SECONDS = 30.0  # between two sendings of what it printed alone


class Working:
    """A trial's folder on this node, under a lease."""

    def __init__(self, cache: Cache, folder: Path, fence: int, patience: float = PATIENCE_SECONDS) -> None:
        """cache: of this node, where what other trials of it need stays at hand. patience: seconds that the store may be away."""
        self.cache, self.storage = cache, cache.storage
        self.folder, self.fence, self.patience = folder, fence, patience
        self.name = trial_name(folder.name)
        self._sent: dict[str, tuple[tuple[int, int, int], File]] = {}  # by name: what the file was then, and where it is stored
        self._shown: set[str] = set()  # notes that are files in the folder now
        self._output_due = 0.0
        self._stopping = threading.Event()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Inside, the folder holds what others left of this trial, and what is written there is sent. To be entered alone in the folder.

        A block that ends well leaves results. Raises TrialFailure("infra") where the store is away, or another holds the lease by now.
        """
        patiently(self._restore, self.patience)
        patiently(self._leave_process, self.patience)
        thread = threading.Thread(target=self._keep, name="storage", daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            self._stop(thread)
            with contextlib.suppress(StorageError, LeaseOver, OSError):  # why it failed is to be read by others, where they can
                self._send()
            raise
        self._stop(thread)
        self._leave_to_cache(patiently(self._finish, self.patience))

    # --- bringing back

    def _restore(self) -> None:
        """Brings what the last holder sent, unless this node was that holder: then what it has is as new, or newer."""
        lease = self.folder / "lease"
        for left in [*self.folder.glob(".*-stored-*"), *self.folder.glob(".*-fetched-*")]:  # by a process that died over it
            left.unlink()
        for _ in range(5):
            manifest = self.storage.manifest(self.name)
            if manifest and manifest.fence > self.fence:
                raise LeaseOver(f"the lease {self.fence} is over, another has trained since (lease {manifest.fence})")
            if manifest is None or (lease.exists() and int(lease.read_text() or 0) >= manifest.fence):
                break
            lease.unlink(missing_ok=True)  # until all is there
            for path in self._files().values():
                path.unlink()
            try:
                for name, file in manifest.files.items():
                    self.storage.fetch(file, self.folder / name)
                break
            except NotStored:  # its holder was still at it, and has replaced what was to be fetched
                continue
        else:
            raise StorageError(f"what {self.name} has is replaced faster than it can be fetched")
        lease.write_text(str(self.fence))

    def _leave_process(self) -> None:
        """Which process works here, for who has to end it."""
        for note in self.storage.notes(self.name) & ASKED:
            self.storage.take_note_away(self.name, note)  # whoever asked an earlier process, asks again
        if (self.folder / PROCESS).exists():
            self.storage.leave_note(self.name, PROCESS, (self.folder / PROCESS).read_bytes())

    # --- sending

    def _keep(self) -> None:
        """Until told to stop: sends what is new, and shows the training what it is asked."""
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self._show_notes()
                if self._is_new(LAST_STATE) or (self._is_new(TRIAL_OUTPUT) and time.monotonic() > self._output_due):
                    self._send()
            except LeaseOver as over:
                log.warning("%s; nothing more is sent", over)
                return
            except (StorageError, OSError) as trouble:
                log.warning("%s; trying again", trouble)

    def _show_notes(self) -> None:
        """A note of the store becomes a file of the folder; when the training has taken that away, it has answered."""
        for note in self.storage.notes(self.name) & ASKED:
            file = self.folder / note
            if note not in self._shown:
                file.touch()
                self._shown.add(note)
            elif not file.exists():
                self._send()
                self.storage.take_note_away(self.name, note)
                self._shown.discard(note)

    def _send(self) -> None:
        """All files as they are, as the state of this trial."""
        self.storage.publish(self.name, Manifest(self.fence, {name: self._stored(name, path) for name, path in self._ordered()}))
        self._output_due = time.monotonic() + OUTPUT_SECONDS

    def _finish(self) -> Manifest:
        """Results become objects, which other trials find by their digest."""
        files = {name: self._stored(name, path) if name in STATE else self.storage.put(path) for name, path in self._ordered()}
        results = Manifest(self.fence, files, finished=True)
        self.storage.publish(self.name, results)
        return results

    def _leave_to_cache(self, results: Manifest) -> None:
        """This trial is done here; what others of this node may need of it stays at hand."""
        for name, path in self._files().items():
            with contextlib.suppress(OSError):  # it can be fetched
                if name in STATE or name not in results.files:
                    path.unlink()
                else:
                    self.cache.take(path, results.files[name])
        (self.folder / "lease").unlink(missing_ok=True)

    def _stored(self, name: str, path: Path) -> File:
        """Where a file of the state is stored, as it is now or was a moment ago."""
        seen = _seen(path)
        if name not in self._sent or self._sent[name][0] != seen:
            if name == TRIAL_OUTPUT:  # it grows in its place
                file = self.storage.put_bytes(path.read_bytes(), self.name, self.fence)
            else:
                file = self.storage.put(path, self.name, self.fence)
            self._sent[name] = seen, file
        return self._sent[name][1]

    def _is_new(self, name: str) -> bool:
        path = self.folder / name
        return path.exists() and (name not in self._sent or self._sent[name][0] != _seen(path))

    def _ordered(self) -> list[tuple[str, Path]]:
        """The state that is gone on from first: of the others it may find newer ones, and makes them again."""
        return sorted(self._files().items(), key=lambda each: each[0] != LAST_STATE)

    def _files(self) -> Mapping[str, Path]:
        entries = self.folder.iterdir()
        return {e.name: e for e in entries if e.is_file() and not e.name.startswith(".") and e.name not in OF_NODE | ASKED}

    def _stop(self, thread: threading.Thread) -> None:
        self._stopping.set()
        thread.join()


def _seen(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
