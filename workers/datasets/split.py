"""What every reader gives: the images and objects of one split in COCO's terms, and by name what is missing or broken.

Readers look at annotations only; whether the images can be read is `check`'s to find out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Broken:
    """A corrupt image or a broken annotation. `name`: the image's file, with the object's number in it where one object is meant."""

    split: str
    kind: Literal["image", "annotation"]
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.split}): {self.reason}"

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass
class Split:
    """One split.

    images: {id, file_name (relative to the dataset's root), width, height}; width and height are None where only the image tells.
    annotations: {image_id, category_id (1 + label), bbox (x, y, w, h; pixels), area, iscrowd} and `segmentation` where there are masks.
    categories: {id, name, supercategory}. missing: files that the split names and that are not there, relative to the root.
    """

    name: str
    categories: list[dict[str, Any]]
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The split as a COCO annotation file, objects numbered from 1 (COCO's evaluation takes id 0 for "no match")."""
        annotations = [{**annotation, "id": number} for number, annotation in enumerate(self.annotations, 1)]
        return {"images": self.images, "annotations": annotations, "categories": self.categories}

    def without(self, images: Iterable[Any]) -> None:
        """Takes these images (ids) out, with their objects."""
        gone = set(images)
        self.images = [image for image in self.images if image["id"] not in gone]
        self.annotations = [a for a in self.annotations if a["image_id"] not in gone]


def categories_of(supercategories: dict[str, str]) -> list[dict[str, Any]]:
    """COCO categories with ids from 1, from {class: supercategory} in the order of the labels."""
    return [{"id": n, "name": name, "supercategory": group} for n, (name, group) in enumerate(supercategories.items(), 1)]


def box_fault(box: Any) -> str | None:
    """What is wrong with a box (x, y, w, h), or None. Width or height zero is no fault: COCO has such boxes, training leaves them out."""
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(_is_number(value) for value in box):
        return f"its box is not four numbers: {str(box)[:60]}"
    if box[2] < 0 or box[3] < 0:
        return f"its box has a negative size: {list(box)}"
    return None


def mask_fault(mask: Any) -> str | None:
    """What is wrong with COCO's `segmentation` (polygons or run lengths), or None."""
    if isinstance(mask, dict):
        return None if mask.get("counts") and len(mask.get("size", ())) == 2 else "its mask has no run lengths"
    if not isinstance(mask, list) or not mask:
        return "its mask is neither polygons nor run lengths"
    for polygon in mask:
        if not isinstance(polygon, list) or len(polygon) % 2 or len(polygon) < 6 or not all(_is_number(value) for value in polygon):
            return "a polygon of its mask is not three points or more"
    return None


def outside(box: Any, width: int, height: int) -> str | None:
    """Says so where a box with an area lies wholly outside its image."""
    x, y, w, h = box
    if w * h > 0 and (x >= width or y >= height or x + w <= 0 or y + h <= 0):
        return f"its box {list(box)} lies outside the image of {width}x{height}"
    return None


def posix(path: Path, root: Path) -> str:
    """`path` relative to the root, as it stands in the index."""
    return path.relative_to(root).as_posix()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
