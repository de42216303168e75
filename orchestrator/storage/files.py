"""The files of trials, for those who read them or have a word for whoever trains: in the folder that all machines share, or in the store.

A file is known by its reference, which the database holds: its path in the shared folder, or <trial's folder>/<name> in the store.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from orchestrator.settings import Settings
from orchestrator.storage.cache import Cache, opened_cache
from orchestrator.storage.storage import File, Manifest, NotStored

PROCESS = "process.json"  # the note that a trial's process leaves of itself


def trial_name(folder: str) -> str:
    """What a trial's folder is called in the store."""
    return f"trials/{folder}"


def beside(reference: str, name: str) -> str:
    """The reference of another file of the same trial. Raises ValueError for what is no name of one."""
    if Path(name).name != name or name == "..":
        raise ValueError(f"{name!r} is no file of a trial")
    return str(Path(reference).with_name(name))


class TrialFiles(Protocol):
    """Where the files of trials are."""

    def present(self, references: Iterable[str]) -> set[str]:
        """Those that are there still, of results."""

    def local(self, reference: str) -> Path | None:
        """The file on this machine, under its own name, to be read; None where it is not there. Raises StorageError."""

    def read(self, folder: str, name: str, start: int, count: int) -> bytes:
        """Some bytes of a file of a trial, which may be at it still; none where there is no such file. Raises StorageError."""

    def size(self, folder: str, name: str) -> int:
        """Bytes of the same; 0 where there is no such file."""

    def mirrored(self, name: str, start: int, count: int) -> bytes:
        """Some bytes of a file that another machine mirrors. Raises StorageError."""

    def leave_note(self, folder: str, note: str) -> None:
        """Leaves a word for the process that trains there. Raises OSError, StorageError."""

    def has_note(self, folder: str, note: str) -> bool:
        """Whether it was not answered yet."""

    def take_note_away(self, folder: str, note: str) -> None: ...

    def note(self, folder: str, note: str) -> bytes:
        """What that process left for others; empty where it left nothing."""


def _on_this_machine(reference: str) -> Path | None:
    path = Path(reference)
    return path if path.is_absolute() and path.is_file() else None


class SharedFolder:
    """One folder that every machine sees at the same path. trials: that of the trials' own folders."""

    def __init__(self, trials: Path) -> None:
        self.trials = trials

    def present(self, references: Iterable[str]) -> set[str]:
        return {reference for reference in references if Path(reference).is_file()}

    def local(self, reference: str) -> Path | None:
        return _on_this_machine(reference)

    def read(self, folder: str, name: str, start: int, count: int) -> bytes:
        try:
            with (self.trials / folder / name).open("rb") as opened:
                opened.seek(start)
                return opened.read(count)
        except FileNotFoundError:
            return b""

    def size(self, folder: str, name: str) -> int:
        try:
            return (self.trials / folder / name).stat().st_size
        except FileNotFoundError:
            return 0

    def mirrored(self, name: str, start: int, count: int) -> bytes:
        return b""  # all see the file itself

    def leave_note(self, folder: str, note: str) -> None:
        (self.trials / folder / note).touch()

    def has_note(self, folder: str, note: str) -> bool:
        return (self.trials / folder / note).exists()

    def take_note_away(self, folder: str, note: str) -> None:
        (self.trials / folder / note).unlink(missing_ok=True)

    def note(self, folder: str, note: str) -> bytes:
        try:
            return (self.trials / folder / note).read_bytes()
        except FileNotFoundError:
            return b""


class StoredFiles:
    """The store, and the cache of this machine. Safe to use from several threads."""

    FEW = 8  # manifests that are asked for one by one

    def __init__(self, cache: Cache) -> None:
        self.cache, self.storage = cache, cache.storage
        self._finished: dict[str, Manifest] = {}  # of trials with results: read again where an object is gone

    def present(self, references: Iterable[str]) -> set[str]:
        references = set(references)
        folders = {Path(reference).parent.name for reference in references}
        if len(folders) > self.FEW:
            found = self.storage.manifests("trials", folders)
        else:
            found = {folder: manifest for folder in folders if (manifest := self.storage.manifest(trial_name(folder)))}
        results = {folder: manifest.files for folder, manifest in found.items() if manifest.finished}
        return {each for each in references if Path(each).name in results.get(Path(each).parent.name, {})}

    def local(self, reference: str) -> Path | None:
        folder, name = Path(reference).parent.name, Path(reference).name
        for manifest in (self._finished.get(folder), self._newest(folder)):
            if manifest and name in manifest.files:
                try:
                    return self.cache.fetched(manifest.files[name], name)
                except NotStored:
                    self._finished.pop(folder, None)
        return _on_this_machine(reference)  # of a time before there was a store

    def read(self, folder: str, name: str, start: int, count: int) -> bytes:
        for _ in range(2):  # what was known of a finished trial may have been replaced since, by another training of it
            file = self._file(folder, name)
            try:
                return self.storage.read(file, start, count) if file else b""
            except NotStored:
                self._finished.pop(folder, None)
        return b""  # replaced in this moment; whoever reads a trial that runs asks again

    def size(self, folder: str, name: str) -> int:
        file = self._file(folder, name)
        return file.bytes if file else 0

    def mirrored(self, name: str, start: int, count: int) -> bytes:
        manifest = self.storage.manifest(name)
        try:
            return b"".join(self.storage.read(file, start, count) for file in manifest.files.values()) if manifest else b""
        except NotStored:
            return b""

    def leave_note(self, folder: str, note: str) -> None:
        self.storage.leave_note(trial_name(folder), note)

    def has_note(self, folder: str, note: str) -> bool:
        return note in self.storage.notes(trial_name(folder))

    def take_note_away(self, folder: str, note: str) -> None:
        self.storage.take_note_away(trial_name(folder), note)

    def note(self, folder: str, note: str) -> bytes:
        try:
            return self.storage.note(trial_name(folder), note)
        except NotStored:
            return b""

    def _file(self, folder: str, name: str) -> File | None:
        manifest = self._finished.get(folder) or self._newest(folder)
        return manifest.files.get(name) if manifest else None

    def _newest(self, folder: str) -> Manifest | None:
        manifest = self.storage.manifest(trial_name(folder))
        if manifest and manifest.finished:
            self._finished[folder] = manifest
        return manifest


def opened_files(settings: Settings) -> TrialFiles:
    """The files of this Retort's trials. Raises ValueError where RETORT_STORE is no store."""
    cache = opened_cache(settings)
    return StoredFiles(cache) if cache else SharedFolder(settings.trials)
