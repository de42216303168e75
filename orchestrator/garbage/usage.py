"""What takes how much of the disk in the state folder."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from orchestrator.garbage.files import size_of


@dataclass(frozen=True)
class Usage:
    """Bytes. parts: by what they are, the largest first. free: of the disk that the state folder is on."""

    parts: dict[str, int]
    free: int

    @property
    def total(self) -> int:
        return sum(self.parts.values())


_NAMES = {"data": "datasets", "tune": "notes of Ray Tune"}


def usage(home: Path) -> Usage:
    """Of everything below the state folder; what vanishes meanwhile counts for nothing."""
    parts: dict[str, int] = {}
    for entry in home.iterdir():
        name = "database" if entry.name.startswith("retort.db") else _NAMES.get(entry.name, entry.name)
        size = size_of(entry) if entry.is_dir() else entry.lstat().st_size
        parts[name] = parts.get(name, 0) + size
    ranked = sorted(parts.items(), key=lambda part: -part[1])
    return Usage({name: size for name, size in ranked if size}, shutil.disk_usage(home).free)
