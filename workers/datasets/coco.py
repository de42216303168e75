"""Reads datasets in COCO's format: COCO 2017 itself, and a user's own (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from studies.trial import TrialFailure
from workers.datasets.split import Broken, Split, box_fault, mask_fault, outside


def read(root: Path, split: str, annotations: str, images: str, classes: list[str] | None = None) -> Split:
    """One split from an annotation file and an image folder (both relative to the root).

    classes: the categories in the order of the labels; None takes those of the file in the order of their ids.
    Raises TrialFailure("data") where the file is no COCO annotation file at all.
    """
    if not (root / annotations).is_file():
        return Split(split, [], missing=[annotations])
    document = _document(root / annotations)
    categories = _categories(document, classes, root / annotations)
    labels = {old: number for number, (old, _) in enumerate(categories, 1)}
    found = Split(split, [{**category, "id": number} for number, (_, category) in enumerate(categories, 1)])
    seen: dict[Any, dict[str, Any]] = {}
    for image in document["images"]:
        fault = _image_fault(image, seen)
        if fault:
            found.broken.append(Broken(split, "image", str(_get(image, "file_name") or _get(image, "id")), fault))
            continue
        kept = {"id": image["id"], "file_name": f"{images}/{image['file_name']}", "width": image["width"], "height": image["height"]}
        seen[image["id"]] = kept
        found.images.append(kept)
    for annotation in document["annotations"]:
        fault = _fault(annotation, seen, labels)
        if fault:
            found.broken.append(Broken(split, "annotation", _name(annotation, seen), fault))
            continue
        found.annotations.append(_kept(annotation, labels))
    return found


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise TrialFailure("data", f"{path} is not a JSON file: {error}; fetch it again") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(document, dict) or not all(isinstance(document.get(part), list) for part in parts):
        raise TrialFailure("data", f"{path} is no COCO annotation file: it needs lists {', '.join(parts)}")
    return document


def _categories(document: dict[str, Any], classes: list[str] | None, path: Path) -> list[tuple[Any, dict[str, Any]]]:
    """(the file's id, category) in the order of the labels."""
    try:
        named = {category["name"]: category for category in sorted(document["categories"], key=lambda category: category["id"])}
    except (TypeError, KeyError) as error:
        raise TrialFailure("data", f"{path}: a category has no id or name") from error
    if classes is None:
        classes = list(named)
    differing = sorted(set(classes) ^ named.keys())
    if differing:
        raise TrialFailure("data", f"{path}: its categories are not the registered classes; they differ in {', '.join(differing[:5])}")
    return [(named[name]["id"], {"name": name, "supercategory": named[name].get("supercategory") or name}) for name in classes]


def _image_fault(image: Any, seen: dict[Any, Any]) -> str | None:
    if not isinstance(image, dict) or not isinstance(image.get("file_name"), str) or not isinstance(image.get("id"), int):
        return "its entry has no id or file_name"
    if not all(isinstance(image.get(side), int) and image[side] > 0 for side in ("width", "height")):
        return "its entry has no width or height"
    return f"its id {image['id']} is used twice" if image["id"] in seen else None


def _fault(annotation: Any, images: dict[Any, dict[str, Any]], labels: dict[Any, int]) -> str | None:
    if not isinstance(annotation, dict):
        return "it is no mapping"
    image = images.get(annotation.get("image_id"))
    if image is None:
        return f"its image {annotation.get('image_id')} is not in the list of images"
    if annotation.get("category_id") not in labels:
        return f"its category {annotation.get('category_id')} is not in the list of categories"
    box, mask = annotation.get("bbox"), annotation.get("segmentation")
    return box_fault(box) or outside(box, image["width"], image["height"]) or (mask_fault(mask) if mask else None)


def _kept(annotation: dict[str, Any], labels: dict[Any, int]) -> dict[str, Any]:
    box = annotation["bbox"]
    kept = {
        "image_id": annotation["image_id"],
        "category_id": labels[annotation["category_id"]],
        "bbox": box,
        "area": annotation.get("area", box[2] * box[3]),
        "iscrowd": int(bool(annotation.get("iscrowd", 0))),
    }
    return kept | ({"segmentation": annotation["segmentation"]} if annotation.get("segmentation") else {})


def _name(annotation: Any, images: dict[Any, dict[str, Any]]) -> str:
    image = images.get(_get(annotation, "image_id"))
    return f"{image['file_name'] if image else '?'} #{_get(annotation, 'id')}"


def _get(entry: Any, key: str) -> Any:
    return entry.get(key) if isinstance(entry, dict) else None
