"""Reads Cityscapes' instances from its polygons (Cordts et al., CVPR 2016): eight classes of people and vehicles.

Polygons are painted in the order of the file, later ones over earlier ones, as the authors' own script makes the
instance images; what is left visible of an object is its mask. Groups ("cargroup") become crowd regions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.datasets.split import Broken, Split, categories_of, posix

SUPERCATEGORIES = {
    "person": "human",
    "rider": "human",
    "car": "vehicle",
    "truck": "vehicle",
    "bus": "vehicle",
    "train": "vehicle",
    "motorcycle": "vehicle",
    "bicycle": "vehicle",
}
LABELS = {name: number for number, name in enumerate(SUPERCATEGORIES, 1)}
UNPAINTED = {"license plate"}  # the authors' script leaves it out: the car shows instead


def read(root: Path, split: str) -> Split:
    """One split; `root` holds leftImg8bit/<split>/<city>/*.png and gtFine/<split>/<city>/*_gtFine_polygons.json."""
    found = Split(split, categories_of(SUPERCATEGORIES))
    folders = root / "gtFine" / split, root / "leftImg8bit" / split
    polygons = {path.name.removesuffix("_gtFine_polygons.json"): path for path in sorted(folders[0].glob("*/*_gtFine_polygons.json"))}
    pictures = {path.name.removesuffix("_leftImg8bit.png"): path for path in sorted(folders[1].glob("*/*_leftImg8bit.png"))}
    found.missing += [f"{posix(folder, root)}/" for folder, files in zip(folders, (polygons, pictures), strict=True) if not files]
    if found.missing:
        return found
    for name in sorted(polygons.keys() | pictures.keys()):
        city = name.split("_")[0]
        if name not in polygons:
            found.missing.append(f"gtFine/{split}/{city}/{name}_gtFine_polygons.json")
        elif name not in pictures:
            found.missing.append(f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png")
        else:
            _read_image(found, root, polygons[name], pictures[name])
    return found


def _read_image(found: Split, root: Path, polygons: Path, picture: Path) -> None:
    """Adds one image and its objects. A broken annotation file takes the image with it."""
    where = posix(polygons, root)
    try:
        document = json.loads(polygons.read_bytes())
        width, height, things = int(document["imgWidth"]), int(document["imgHeight"]), list(document["objects"])
    except (ValueError, KeyError, TypeError) as error:
        found.broken.append(Broken(found.name, "annotation", where, f"not a polygon file: {type(error).__name__}: {error}"))
        return
    painted = np.zeros((height, width), np.int32)  # number of the object that is visible, 0 for none of the eight classes
    kept: dict[int, tuple[str, bool]] = {}
    for number, thing in enumerate(things, 1):
        fault = _paint(painted, number, thing, kept)
        if fault:
            found.broken.append(Broken(found.name, "annotation", f"{where} #{number}", fault))
    image = {"id": len(found.images) + 1, "file_name": posix(picture, root), "width": width, "height": height}
    found.images.append(image)
    for number, (label, crowd) in kept.items():
        mask = painted == number
        if mask.any():  # else hidden by what was painted over it
            found.annotations.append({"image_id": image["id"], "category_id": LABELS[label], "iscrowd": int(crowd), **_region(mask)})


def _paint(painted: NDArray[np.int32], number: int, thing: Any, kept: dict[int, tuple[str, bool]]) -> str | None:
    """Paints an object's polygon, with its number if it is of the eight classes; says what is wrong with it otherwise."""
    from PIL import Image, ImageDraw

    if not isinstance(thing, dict) or not isinstance(thing.get("label"), str):
        return "it has no label"
    label = thing["label"].removesuffix("group")
    if thing.get("deleted") or label in UNPAINTED:
        return None
    try:
        points = np.array([(float(x), float(y)) for x, y in thing["polygon"]])
    except (KeyError, TypeError, ValueError):
        points = np.empty((0, 2))
    if len(points) < 3 or not np.isfinite(points).all():
        return "its polygon is not three points or more" if label in LABELS else None
    (left, top), (right, bottom) = np.maximum(points.min(0), 0).astype(int), points.max(0).astype(int) + 1
    patch = painted[top : bottom + 1, left : right + 1]
    if not patch.size:
        return "its polygon lies outside the image" if label in LABELS else None
    stencil = Image.new("1", (patch.shape[1], patch.shape[0]))
    ImageDraw.Draw(stencil).polygon([(x - left, y - top) for x, y in points], fill=1)
    patch[np.asarray(stencil)] = number if label in LABELS else 0
    if label in LABELS:
        kept[number] = label, label != thing["label"]
    return None


def _region(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Box, area and run lengths of a mask (H, W)."""
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "bbox": [float(value) for value in coco_mask.toBbox(encoded)],
        "area": int(coco_mask.area(encoded)),
        "segmentation": {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()},
    }
