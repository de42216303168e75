"""Datasets on this machine: made or checked once, then read by their digest.

`prepare(name, data)` leaves `data/<name>/` complete or not there at all, with a `manifest.json` that holds the digest.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from studies.trial import TrialFailure
from workers import digits


def prepare(name: str, data: Path) -> str:
    """Makes or checks dataset `name` under `data` and returns its content digest (sha256, hex).

    Idempotent, safe against interruption and against a second process doing the same. Raises TrialFailure("data").
    """
    if name != "digits":
        raise TrialFailure("data", f"dataset {name!r} is not on this machine")
    manifest = read_manifest(data / name)
    if manifest:
        return str(manifest["digest"])
    data.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=data))
    try:
        digits.generate(unfinished)
        manifest = {"dataset": name, "digest": digits.digest(unfinished), "images": digits.SPLITS}
        (unfinished / "manifest.json").write_text(json.dumps(manifest, indent=1))
        os.chmod(unfinished, 0o755)
        publish(unfinished, data / name)
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


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete dataset, or None."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest.get("digest"), str) else None
