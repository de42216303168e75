"""The manifest of a dataset that was made or checked on this machine: `data/<name>/manifest.json`, written last.

digest      sha256 (hex) of all that training and evaluation read: annotations, images, and what is broken
classes     names in the order of the labels
images      {split: count of those that can be read}
objects     {split: count}
root        folder that the index's file names start from; not there: the split's own folder
masks       whether the objects have masks
mirror      whether a mirrored image is still a valid one
source      what the registration says, for a dataset of the user's own
broken      what was left out: [{split, kind, name, reason}]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete dataset, or None."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest.get("digest"), str) and manifest.get("classes") else None


def images_folder(data: Path, name: str, split: str, manifest: dict[str, Any]) -> Path:
    """Where the index's file names start from."""
    folder: Path = data / name / manifest.get("root", split)
    return folder
