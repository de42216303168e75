"""How large folders are, and when something in them changed."""

import os
from collections.abc import Iterator
from pathlib import Path


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; what vanishes meanwhile counts for nothing."""
    return sum(size for size, _ in _files(folder))


def last_change(folder: Path) -> float:
    """When any file below a folder was changed last, in seconds since 1970; 0 where there is none."""
    return max((changed for _, changed in _files(folder)), default=0.0)


def _files(folder: Path) -> Iterator[tuple[int, float]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.lstat(os.path.join(parent, name))
            except FileNotFoundError:
                continue
            yield found.st_size, found.st_mtime
