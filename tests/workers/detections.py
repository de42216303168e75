"""Random ground truth and detections for the tests of evaluation: hits, near misses, wrong classes, duplicates, nonsense."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

GROUPS = {"cat": "animal", "dog": "animal", "car": "vehicle", "bus": "vehicle", "cup": "thing"}
NAMES = list(GROUPS)
SIZE = 240  # pixels


def annotation_file(folder: Path, seed: int, images: int = 6) -> Path:
    """A COCO annotation file with boxes, elliptic masks and crowds, every class in it."""
    rng = np.random.default_rng(seed)
    annotations = []
    for number in range(images * 6):
        x, y = rng.uniform(0, SIZE * 0.6, 2)
        w, h = np.minimum(SIZE - np.array([x, y]), np.exp(rng.uniform(np.log(8), np.log(150), 2)))
        mask = ellipse(x, y, w, h)
        annotations.append(
            {
                "id": number + 1,
                "image_id": number % images,
                "category_id": number % len(NAMES) + 1,
                "bbox": [x, y, w, h],
                "area": float(coco_mask.area(mask)),
                "iscrowd": int(rng.random() < 0.1),
                "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
            }
        )
    document = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": SIZE, "height": SIZE} for n in range(images)],
        "annotations": annotations,
        "categories": [{"id": n, "name": name, "supercategory": group} for n, (name, group) in enumerate(GROUPS.items(), 1)],
    }
    path = folder / f"truth-{seed}.json"
    path.write_text(json.dumps(document))
    return path


def detections(path: Path, seed: int) -> list[tuple[int, Any, Any, Any, list[Any]]]:
    """(image, boxes xyxy, scores, labels, masks) as a detector would give them."""
    rng = np.random.default_rng([seed, 1])
    document = json.loads(path.read_text())
    found = []
    for image in document["images"]:
        boxes, labels = [], []
        for annotation in [a for a in document["annotations"] if a["image_id"] == image["id"]]:
            for _ in range(rng.integers(0, 4)):
                jitter = rng.normal(0, rng.choice([0.02, 0.1, 0.3]), 4) * np.tile(annotation["bbox"][2:], 2)
                x, y, w, h = np.array(annotation["bbox"]) + jitter
                boxes.append([x, y, x + max(2.0, w), y + max(2.0, h)])
                labels.append(annotation["category_id"] - 1 if rng.random() < 0.75 else rng.integers(0, len(NAMES)))
        for _ in range(rng.integers(0, 8)):
            x, y, w, h = rng.uniform(0, SIZE / 2, 4)
            boxes.append([x, y, x + w + 2, y + h + 2])
            labels.append(rng.integers(0, len(NAMES)))
        corners = np.array(boxes, dtype=float).reshape(-1, 4)
        scores = np.round(rng.uniform(0.05, 1, len(boxes)), 2)  # rounded: equal scores happen
        masks = [ellipse(x, y, right - x, bottom - y) for x, y, right, bottom in corners]
        found.append((image["id"], corners, scores, np.array(labels, dtype=int), masks))
    return found


def ellipse(x: float, y: float, w: float, h: float) -> dict[str, Any]:
    """The ellipse inside a box, as run lengths."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    inside = ((columns - x - w / 2) / (w / 2)) ** 2 + ((rows - y - h / 2) / (h / 2)) ** 2 <= 1
    return dict(coco_mask.encode(np.asfortranarray(inside.astype(np.uint8))))
