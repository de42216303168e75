"""Looks at every file of a dataset and writes what training reads: an index per split (COCO's format) and the manifest.

Missing files stop the check. Corrupt images and broken annotations are left out of the index and listed in the manifest
by name; a trial stops at them or goes on without them, as its spec says.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import workers.datasets.digits as digits
from studies.catalog import DATASETS
from studies.trial import TrialFailure
from workers.datasets.coco import read as read_coco
from workers.datasets.manifest import read_manifest
from workers.datasets.records import make_records
from workers.datasets.sources import SPLITS, Source, source
from workers.datasets.split import Broken, Split, outside
from workers.files import write_atomically

Told = Callable[[int, int], None]  # images looked at, of how many


@dataclass(frozen=True)
class Report:
    """What a check found. `objects`: {class: {split: count}}. `published`: {split: images of the whole dataset}, where known."""

    name: str
    root: Path
    digest: str
    images: dict[str, int]
    objects: dict[str, dict[str, int]]
    published: dict[str, int]
    broken: list[Broken]


def check(name: str, data: Path, told: Told = lambda done, of: None) -> Report:
    """Reads all of dataset `name` anew, replaces its index and manifest, and says what is there. Raises TrialFailure("data").

    An incomplete dataset loses its manifest, so that no trial starts on it.
    """
    if name == "digits":
        return _check_digits(data, told)
    files = source(name, data)
    (data / name / "manifest.json").unlink(missing_ok=True)
    parts = [files.read(split) for split in SPLITS]
    digests = _inspect(name, files, parts, told)
    folder = data / name
    folder.mkdir(parents=True, exist_ok=True)
    total = hashlib.sha256()
    for part in parts:
        index = json.dumps(part.document(), sort_keys=True)
        write_atomically(index.encode(), folder / f"{part.name}.json")
        for content in (index, digests[part.name], [(b.kind, b.name) for b in part.broken]):
            total.update(json.dumps(content).encode())
    masks = all(part.annotations and all("segmentation" in a for a in part.annotations) for part in parts)
    for part in parts:
        make_records(folder / f"{part.name}.json", part.document(), masks)
    manifest = {
        "dataset": name,
        "digest": total.hexdigest(),
        "classes": [category["name"] for category in parts[0].categories],
        "images": {part.name: len(part.images) for part in parts},
        "objects": {part.name: len(part.annotations) for part in parts},
        "root": "." if files.root == folder else str(files.root),
        "masks": masks,
        "mirror": files.mirror,
        "source": files.stated,
        "broken": [broken.as_dict() for part in parts for broken in part.broken],
    }
    write_atomically(json.dumps(manifest, indent=1).encode(), folder / "manifest.json")
    return _report(name, files.root, manifest, parts)


def _inspect(name: str, files: Source, parts: list[Split], told: Told) -> dict[str, dict[str, str]]:
    """Decodes every image, takes broken ones out of the splits, and gives {split: {file name: sha256}}."""
    if any(part.missing for part in parts):
        raise _incomplete(name, files, parts)
    count = sum(len(part.images) for part in parts)
    done = 0
    digests: dict[str, dict[str, str]] = {part.name: {} for part in parts}
    # Decoding releases the interpreter's lock, so threads keep all cores busy.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part in parts:
            sizes: dict[Any, tuple[int, int]] = {}
            looked = pool.map(lambda image: _look(files.root / image["file_name"]), part.images)
            for image, (digest, size, fault) in zip(part.images, looked, strict=True):
                done += 1
                told(done, count)
                if digest is None:
                    part.missing.append(image["file_name"])
                    continue
                digests[part.name][image["file_name"]] = digest
                fault = fault or _size_fault(image, size)
                if fault or size is None:
                    part.broken.append(Broken(part.name, "image", image["file_name"], fault or "unreadable"))
                else:
                    sizes[image["id"]] = size
            part.without(image["id"] for image in part.images if image["id"] not in sizes)
            _settle_sizes(part, sizes)
    if any(part.missing for part in parts):
        raise _incomplete(name, files, parts)
    empty = [part.name for part in parts if not part.images]
    if empty:
        raise TrialFailure("data", f"dataset {name!r} has no readable image in {' and '.join(empty)} under {files.root}")
    return digests


def _look(path: Path) -> tuple[str | None, tuple[int, int] | None, str | None]:
    """(sha256, (width, height), fault) of an image file; no sha256 where it is not there."""
    from PIL import Image, UnidentifiedImageError

    try:
        content = path.read_bytes()
    except OSError:
        return None, None, None
    digest = hashlib.sha256(content).hexdigest()
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return digest, image.size, None
    except UnidentifiedImageError:
        return digest, None, "it is no image file"
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        return digest, None, f"it cannot be decoded: {error or type(error).__name__}"


def _size_fault(image: dict[str, Any], size: tuple[int, int] | None) -> str | None:
    """A size that is not the annotated one; turned by 90 degrees is what the file's orientation tag says."""
    if size is None or image["width"] is None or sorted(size) == sorted((image["width"], image["height"])):
        return None
    return f"it is {size[0]}x{size[1]}, its annotation says {image['width']}x{image['height']}"


def _settle_sizes(part: Split, sizes: dict[Any, tuple[int, int]]) -> None:
    """Fills in sizes that only the image tells, and takes out objects that then turn out to lie outside."""
    unsized = {image["id"]: image for image in part.images if image["width"] is None}
    for image in unsized.values():
        image["width"], image["height"] = sizes[image["id"]]
    kept = []
    for annotation in part.annotations:
        its = unsized.get(annotation["image_id"])
        fault = outside(annotation["bbox"], its["width"], its["height"]) if its else None
        if its and fault:
            part.broken.append(Broken(part.name, "annotation", its["file_name"], fault))
        else:
            kept.append(annotation)
    part.annotations = kept


def _incomplete(name: str, files: Source, parts: list[Split]) -> TrialFailure:
    missing = [path for part in parts for path in part.missing]
    listed = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    return TrialFailure("data", f"dataset {name!r} is incomplete under {files.root}: missing {listed}; it comes from {files.origin}")


def _check_digits(data: Path, told: Told) -> Report:
    """The embedded dataset: its files must be those that its digest was made of."""
    folder = data / "digits"
    manifest = read_manifest(folder)
    if manifest is None:
        raise TrialFailure("data", f"dataset 'digits' is not in {folder}; it is made at its first use")
    files = Source(
        folder, "Retort itself: remove the folder and it is made anew", lambda split: read_coco(folder, split, f"{split}.json", split)
    )
    parts = [files.read(split) for split in SPLITS]
    _inspect("digits", files, parts, told)
    broken = [broken for part in parts for broken in part.broken]
    if not broken and digits.digest(folder) != manifest["digest"]:
        raise TrialFailure(
            "data", f"dataset 'digits' in {folder} is not as it was made; remove the folder and it is made anew at its next use"
        )
    return _report("digits", folder, {**manifest, "broken": [b.as_dict() for b in broken]}, parts)


def _report(name: str, root: Path, manifest: dict[str, Any], parts: list[Split]) -> Report:
    names = [category["name"] for category in parts[0].categories]
    counts = {part.name: Counter(annotation["category_id"] for annotation in part.annotations) for part in parts}
    known = DATASETS.get(name)
    published = {"train": known.train_images, "val": known.val_images} if known else {}
    return Report(
        name=name,
        root=root,
        digest=manifest["digest"],
        images={part.name: len(part.images) for part in parts},
        objects={label: {part.name: counts[part.name][number] for part in parts} for number, label in enumerate(names, 1)},
        published={split: count for split, count in published.items() if count},
        broken=[Broken(**broken) for broken in manifest["broken"]],
    )
