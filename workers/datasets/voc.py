"""Reads PASCAL VOC: trained on 2007 and 2012 trainval, tested on 2007 test (Everingham et al., IJCV 2010).

Boxes count pixels from 1 and include the last one; they become x, y, w, h from 0, so that w = xmax - xmin + 1. Objects
marked difficult are neither learnt nor scored, which is what COCO's crowd flag does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from workers.datasets.split import Broken, Split, box_fault, categories_of, posix

SUPERCATEGORIES = {
    "aeroplane": "vehicle",
    "bicycle": "vehicle",
    "bird": "animal",
    "boat": "vehicle",
    "bottle": "indoor",
    "bus": "vehicle",
    "car": "vehicle",
    "cat": "animal",
    "chair": "indoor",
    "cow": "animal",
    "diningtable": "indoor",
    "dog": "animal",
    "horse": "animal",
    "motorbike": "vehicle",
    "person": "person",
    "pottedplant": "indoor",
    "sheep": "animal",
    "sofa": "indoor",
    "train": "vehicle",
    "tvmonitor": "indoor",
}
LABELS = {name: number for number, name in enumerate(SUPERCATEGORIES, 1)}
SETS = {"train": [("VOC2007", "trainval"), ("VOC2012", "trainval")], "val": [("VOC2007", "test")]}


def read(root: Path, split: str) -> Split:
    """One split; `root` holds VOCdevkit/VOC2007 and VOCdevkit/VOC2012 with ImageSets, Annotations and JPEGImages."""
    found = Split(split, categories_of(SUPERCATEGORIES))
    for year, part in SETS[split]:
        folder = root / "VOCdevkit" / year
        listing = folder / "ImageSets" / "Main" / f"{part}.txt"
        if not listing.is_file():
            found.missing.append(posix(listing, root))
            continue
        for name in listing.read_text().split():
            _read_image(found, root, folder, name)
    return found


def _read_image(found: Split, root: Path, folder: Path, name: str) -> None:
    """Adds one image and its objects. A broken annotation file takes the image with it."""
    annotation = folder / "Annotations" / f"{name}.xml"
    image = {
        "id": len(found.images) + 1,
        "file_name": posix(folder / "JPEGImages" / f"{name}.jpg", root),
        "width": None,
        "height": None,
    }
    if not annotation.is_file():
        found.missing.append(posix(annotation, root))
        return
    try:
        objects = ElementTree.parse(annotation).getroot().findall("object")
    except ElementTree.ParseError as error:
        found.broken.append(Broken(found.name, "annotation", posix(annotation, root), f"not an XML file: {error}"))
        return
    found.images.append(image)
    for number, thing in enumerate(objects, 1):
        entry, fault = _object(thing)
        if fault:
            found.broken.append(Broken(found.name, "annotation", f"{posix(annotation, root)} #{number}", fault))
        else:
            found.annotations.append({"image_id": image["id"], **entry})


def _object(thing: ElementTree.Element) -> tuple[dict[str, Any], str | None]:
    """An <object> in COCO's terms, and what is wrong with it."""
    name = (thing.findtext("name") or "").strip()
    if name not in LABELS:
        return {}, f"its class {name!r} is none of VOC's"
    try:
        x1, y1, x2, y2 = (float(thing.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        return {}, "its box is not four numbers"
    if x2 < x1 or y2 < y1:
        return {}, f"its box ends before it begins: {x1:g}, {y1:g}, {x2:g}, {y2:g}"
    x, y = max(0.0, x1 - 1), max(0.0, y1 - 1)
    box = [x, y, x2 - x, y2 - y]
    difficult = (thing.findtext("difficult") or "0").strip() == "1"
    return {"category_id": LABELS[name], "bbox": box, "area": box[2] * box[3], "iscrowd": int(difficult)}, box_fault(box)
