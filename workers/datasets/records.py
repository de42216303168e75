"""A split's annotations as training reads them: parsed once per machine, mapped into memory, one record an image.

COCO's train2017.json takes a process seconds and gigabytes to parse; its records take neither, and all loader processes of all trials
share their pages. They lie beside the annotation file, in `records/`, and are made anew where the file has changed.

    records/train-boxes-<format>-<size>-<time>/records.bin   per image: JSON {id, file_name, width, height, instances}, one after another
                                               table.npy     per image: where its record ends, its size, and what it holds
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.trial import TrialFailure

FORMAT = 1  # raise when records change
TABLE = np.dtype([("end", "<i8"), ("width", "<i4"), ("height", "<i4"), ("annotated", "?"), ("crowds_only", "?")])


class Records:
    """The images of a split. table: (N,) of TABLE, in the order of the annotation file; `record` gives one image's."""

    def __init__(self, folder: Path) -> None:
        self.table: NDArray[Any] = np.load(folder / "table.npy")
        path = folder / "records.bin"
        self._records: NDArray[np.uint8] = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)

    def record(self, number: int) -> dict[str, Any]:
        """Image `number`: id, file_name (as in the annotation file), width, height, and `instances` as mmdet has them.

        instances: [{bbox (x1, y1, x2, y2), bbox_label, ignore_flag (1: a crowd), mask (where there are masks)}].
        """
        start = int(self.table["end"][number - 1]) if number else 0
        record: dict[str, Any] = json.loads(self._records[start : int(self.table["end"][number])].tobytes())
        return record


def opened(annotations: Path, masks: bool) -> Records:
    """The records of a COCO annotation file, made where they are not there yet. masks: whether they hold masks."""
    folder = _place(annotations, masks)
    if not folder.is_dir():
        with _locked(folder.parent):
            if not folder.is_dir():
                _write(json.loads(annotations.read_bytes()), folder, masks)
    return Records(folder)


def make_records(annotations: Path, document: dict[str, Any], masks: bool) -> None:
    """Makes the records of an annotation file from its content. masks: also those with masks."""
    for kind in {False, masks}:
        folder = _place(annotations, kind)
        with _locked(folder.parent):
            if not folder.is_dir():
                _write(document, folder, kind)


def _place(annotations: Path, masks: bool) -> Path:
    written = annotations.stat()
    kind = "masks" if masks else "boxes"
    return annotations.parent / "records" / f"{annotations.stem}-{kind}-{FORMAT}-{written.st_size}-{written.st_mtime_ns}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise TrialFailure(
            "data", f"the annotations' records cannot be made in {folder}: {error.strerror}; let trials write there"
        ) from error
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(document: dict[str, Any], folder: Path, masks: bool) -> None:
    """Writes records as a whole, and takes those away that they replace."""
    labels = {category["id"]: label for label, category in enumerate(document["categories"])}
    of_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in document["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    table = np.zeros(len(document["images"]), TABLE)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    try:
        with (unfinished / "records.bin").open("wb") as file:
            for number, image in enumerate(document["images"]):
                objects = of_image.get(image["id"], [])
                instances = [_instance(each, labels, masks) for each in objects if _counts(each, image)]
                kept = {name: image[name] for name in ("id", "file_name", "width", "height")}
                file.write(json.dumps({**kept, "instances": instances}, separators=(",", ":")).encode())
                crowds_only = all(each["ignore_flag"] for each in instances)
                table[number] = file.tell(), image["width"], image["height"], bool(objects), crowds_only
        np.save(unfinished / "table.npy", table)
        stem = folder.name.rsplit("-", 3)[0]
        for old in folder.parent.glob(f"{stem}-*"):
            shutil.rmtree(old, ignore_errors=True)  # whoever has it mapped keeps it
        os.chmod(unfinished, 0o755)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _counts(annotation: dict[str, Any], image: dict[str, Any]) -> bool:
    """Whether mmdet trains on it: its box has an area, inside the image."""
    x, y, w, h = annotation["bbox"]
    across = max(0, min(x + w, image["width"]) - max(x, 0))
    down = max(0, min(y + h, image["height"]) - max(y, 0))
    return bool(across * down and annotation["area"] > 0 and w >= 1 and h >= 1)


def _instance(annotation: dict[str, Any], labels: dict[Any, int], masks: bool) -> dict[str, Any]:
    x, y, w, h = annotation["bbox"]
    instance = {
        "ignore_flag": int(bool(annotation.get("iscrowd"))),
        "bbox": [x, y, x + w, y + h],
        "bbox_label": labels[annotation["category_id"]],
    }
    return instance | ({"mask": annotation["segmentation"]} if masks and annotation.get("segmentation") else {})
