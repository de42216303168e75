"""Files of the store on this machine, each fetched once: <folder>/<sha256>/<name>, checked by its digest before it appears."""

import os
import shutil
import time
from pathlib import Path

from orchestrator.settings import Settings
from orchestrator.storage.storage import OBJECTS, File, Storage

UNUSED_SECONDS = 7 * 24 * 3600.0  # a file that nobody has asked for so long is removed


class Cache:
    """A folder on a disk of this machine. Safe to use from several processes at once."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self.storage, self.folder = storage, folder

    def fetched(self, file: File, name: str) -> Path:
        """The file by its own name, in a folder that holds nothing but it and what is put beside it. Raises StorageError."""
        path = self.folder / file.sha256 / name
        if not (path.is_file() and path.stat().st_size == file.bytes):
            self.storage.fetch(file, path)
        os.utime(path.parent)
        return path

    def take(self, path: Path, file: File) -> None:
        """Moves a file that is stored, and on this disk, to where it would be fetched to."""
        place = self.folder / file.sha256 / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
        os.utime(place.parent)

    def tidy(self, unused_seconds: float = UNUSED_SECONDS) -> None:
        """Removes what was not asked for lately; it can be fetched again."""
        if not self.folder.is_dir():
            return
        for entry in self.folder.iterdir():
            if entry.stat().st_mtime < time.time() - unused_seconds:
                shutil.rmtree(entry, ignore_errors=True)


def opened_cache(settings: Settings) -> Cache | None:
    """The cache of this machine; None where there is no store."""
    return Cache(Storage(settings.store), settings.cache / OBJECTS) if settings.store else None
