"""Datasets on this machine: made or checked once, then read by their digest.

`prepare(name, data)` leaves `data/<name>/` with an index per split and a `manifest.json`, complete or not there at all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import workers.datasets.digits as digits
from studies.catalog import DATASETS
from workers.datasets.check import check
from workers.datasets.manifest import read_manifest
from workers.datasets.sources import source

__all__ = ["check", "prepare", "publish", "read_manifest"]


def prepare(name: str, data: Path) -> str:
    """Makes or checks dataset `name` under `data` and returns its content digest (sha256, hex).

    What was checked once is not read again; `check` does that. Idempotent, safe against interruption and against a second
    process doing the same. Raises TrialFailure("data").
    """
    manifest = read_manifest(data / name)
    if manifest and (name in DATASETS or manifest["source"] == source(name, data).stated):
        return str(manifest["digest"])
    return _make_digits(data) if name == "digits" else check(name, data).digest


def _make_digits(data: Path) -> str:
    data.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".digits-", dir=data))
    try:
        digits.generate(unfinished)
        manifest = {
            "dataset": "digits",
            "digest": digits.digest(unfinished),
            "classes": [str(digit) for digit in range(10)],
            "images": digits.SPLITS,
            "masks": True,
            "mirror": False,  # a mirrored 2 is no 2
            "broken": [],
        }
        (unfinished / "manifest.json").write_text(json.dumps(manifest, indent=1))
        os.chmod(unfinished, 0o755)
        publish(unfinished, data / "digits")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return str(manifest["digest"])


def publish(finished: Path, place: Path) -> None:
    """Moves a finished folder into place; another process that was faster wins, a broken leftover is replaced."""
    try:
        finished.rename(place)
    except OSError:
        if read_manifest(place):
            return
        broken = place.with_name(f".{place.name}-broken-{os.getpid()}")
        place.rename(broken)
        finished.rename(place)
        shutil.rmtree(broken, ignore_errors=True)
