"""What a backup says of itself: where it is from, and every file with its digest."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

MANIFEST = "backup.json"
DATABASE, TRIALS, MLFLOW, DATASETS = "retort.db", "trials", "mlflow", "datasets"
_PIECE = 1 << 20


class BackupError(Exception):
    """A backup that cannot be made or put back; the text says why and what to do."""


@dataclass(frozen=True)
class Manifest:
    """version: of Retort. revision: of the database's schema. home: absolute path it was under. created: seconds since 1970. mlflow:
    whether MLflow's files are with it. files: sha256 (hex) by path under the backup's folder. missing: checkpoints that results name and
    that were not there, by trial."""

    version: str
    revision: str
    home: str
    created: float
    mlflow: bool
    files: dict[str, str]
    missing: list[str]

    def write(self, folder: Path) -> None:
        path = folder / MANIFEST
        with path.open("w") as file:
            json.dump(asdict(self), file, indent=1)
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def read(folder: Path) -> "Manifest":
        """Raises BackupError."""
        try:
            return Manifest(**json.loads((folder / MANIFEST).read_text()))
        except FileNotFoundError:
            raise BackupError(f"{folder} is no backup: it has no {MANIFEST}") from None
        except (ValueError, TypeError) as error:
            raise BackupError(f"{folder / MANIFEST} cannot be read ({error}); the backup is damaged") from None


def copied(source: Path, target: Path) -> str:
    """Copies a file and gives the sha256 (hex) of what was copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("wb") as written:
        while piece := read.read(_PIECE):
            digest.update(piece)
            written.write(piece)
    return digest.hexdigest()


def sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
