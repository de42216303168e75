"""A prepared dataset as one file, to be taken to other machines: its index, its manifest, and the images that the index names, no others.

Equal datasets give equal archives: files come in the order of the index, without times and owners.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from studies.trial import TrialFailure
from workers.datasets import publish
from workers.datasets.manifest import images_folder, read_manifest
from workers.datasets.sources import SPLITS

IMAGES = "images"  # folder of the images in an archive, where the index's file names start from one folder for all splits


def pack(name: str, data: Path, archive: Path) -> None:
    """Writes dataset `name`, which is prepared under `data`. Raises TrialFailure("data") where an image is gone or lies elsewhere."""
    manifest = read_manifest(data / name)
    if manifest is None:
        raise TrialFailure("data", f"dataset {name!r} is not prepared under {data}")
    inside = {**manifest, "root": IMAGES} if "root" in manifest else manifest
    try:
        with tarfile.open(archive, "w") as tar:
            for split in SPLITS:
                tar.addfile(*_member(f"{split}.json", (data / name / f"{split}.json").read_bytes()))
            for place, path in _images(name, data, manifest):
                tar.addfile(*_member(place, path.read_bytes()))
            tar.addfile(*_member("manifest.json", json.dumps(inside, indent=1).encode()))
    except FileNotFoundError as error:
        told = f"{error.filename} of dataset {name!r} is missing; look it through with `retort data check {name}`"
        raise TrialFailure("data", told) from error


def unpack(archive: Path, place: Path) -> None:
    """Makes the folder of a dataset from an archive, as a whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(unfinished, filter="data")
        unfinished.chmod(0o755)
        publish(unfinished, place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _images(name: str, data: Path, manifest: dict[str, object]) -> Iterator[tuple[str, Path]]:
    """Where each image is in the archive, and where it is now."""
    seen = set()
    for split in SPLITS:
        folder = images_folder(data, name, split, manifest)
        for image in json.loads((data / name / f"{split}.json").read_bytes())["images"]:
            file = PurePosixPath(image["file_name"])
            if file.is_absolute() or ".." in file.parts:
                told = f"the image {image['file_name']!r} of dataset {name!r} lies outside its root"
                raise TrialFailure("data", f"{told}; such a dataset cannot be taken to other machines")
            place = str((IMAGES if "root" in manifest else split) / file)
            if place not in seen:
                seen.add(place)
                yield place, folder / file


def _member(name: str, content: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    return member, io.BytesIO(content)
