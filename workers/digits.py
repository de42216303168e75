"""The embedded dataset: scenes of handwritten digits, composed from the 1,797 real 8x8 scans that scikit-learn ships.

Small enough to learn in CPU minutes, real enough that a better student shows: sizes vary fourfold, digits are
coloured, blended and cluttered, and no scan of a validation image is ever seen in training.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

IMAGE_SIZE = 128  # pixels
SPLITS = {"train": 2000, "val": 300}  # images
DIGITS_PER_IMAGE = (2, 8)
DIGIT_SIZE = (14.0, 56.0)  # pixels, log-uniform
MAX_OVERLAP = 0.15  # share of the smaller box that a neighbour may cover
SEED = 20
FORMAT = 1  # raise when the scenes change: the digest follows from what is written


def generate(folder: Path) -> None:
    """Writes `<split>/*.png` and `<split>.json` (COCO format with boxes and masks) into an existing empty folder."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    shuffled = np.random.default_rng(SEED).permutation(len(scans.images))
    cut = int(len(shuffled) * 0.8)  # scans of the training scenes; the others are for validation
    pools = {"train": shuffled[:cut], "val": shuffled[cut:]}
    for number, (split, count) in enumerate(SPLITS.items()):
        rng = np.random.default_rng([SEED, number])
        write_split(folder, split, count, scans.images, scans.target, pools[split], rng)


def write_split(
    folder: Path, split: str, count: int, scans: NDArray[Any], labels: NDArray[Any], pool: NDArray[Any], rng: np.random.Generator
) -> None:
    """Composes `count` scenes from the scans in `pool` and writes them."""
    import cv2

    (folder / split).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        scene, objects = compose(rng, scans, labels, pool)
        name = f"{index:05d}.png"
        cv2.imwrite(str(folder / split / name), scene)
        images.append({"id": index, "file_name": name, "width": IMAGE_SIZE, "height": IMAGE_SIZE})
        # COCO's evaluation takes id 0 for "no match"; ids count from 1.
        annotations += [{"id": len(annotations) + n + 1, "image_id": index, "iscrowd": 0, **each} for n, each in enumerate(objects)]
    document = {
        "info": {"description": "Retort digits", "format": FORMAT},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": digit, "name": str(digit)} for digit in range(10)],
    }
    (folder / f"{split}.json").write_text(json.dumps(document, sort_keys=True))


def compose(
    rng: np.random.Generator, scans: NDArray[Any], labels: NDArray[Any], pool: NDArray[Any]
) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """One scene (H, W, 3) uint8 and its objects as COCO annotations (bbox xywh, RLE mask, area, category, scan)."""
    from pycocotools import mask as coco_mask

    scene = background(rng)
    objects: list[dict[str, Any]] = []
    boxes: list[tuple[int, int, int, int]] = []
    wanted = int(rng.integers(DIGITS_PER_IMAGE[0], DIGITS_PER_IMAGE[1] + 1))
    while len(objects) < wanted:
        scan = int(rng.choice(pool))
        alpha = glyph(scans[scan], float(np.exp(rng.uniform(*np.log(DIGIT_SIZE)))))
        height, width = alpha.shape
        place = free_place(rng, boxes, width, height)
        if place is None:
            wanted -= 1 if len(objects) >= DIGITS_PER_IMAGE[0] else 0
            continue
        x, y = place
        patch = scene[y : y + height, x : x + width]
        opacity = alpha[..., None] * rng.uniform(0.7, 1.0)
        patch += opacity * (rng.uniform(120, 255, 3) - patch)
        mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        mask[y : y + height, x : x + width] = alpha > 0.3
        encoded = coco_mask.encode(np.asfortranarray(mask))
        boxes.append((x, y, x + width, y + height))
        objects.append(
            {
                "bbox": [x, y, width, height],
                "area": int(mask.sum()),
                "category_id": int(labels[scan]),
                "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
                "scan": scan,
            }
        )
    noisy = scene + rng.normal(0, rng.uniform(2, 8), scene.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), objects


def background(rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth random field (H, W, 3): coarse noise blown up, around a random darker colour than the digits have."""
    import cv2

    cells = int(rng.integers(2, 7))
    field = cv2.resize(rng.normal(0, 1, (cells, cells, 3)), (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_CUBIC)
    return np.clip(rng.uniform(20, 130, 3) + rng.uniform(8, 25) * field, 0, 255)


def glyph(scan: NDArray[Any], size: float) -> NDArray[np.float64]:
    """The scan (8, 8) as an opacity map cropped to its ink, its longer side about `size` pixels."""
    import cv2

    rows, columns = np.flatnonzero(scan.max(1) > 3), np.flatnonzero(scan.max(0) > 3)
    ink = scan[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] / 16.0
    scale = size / max(ink.shape)
    shape = (max(4, round(ink.shape[1] * scale)), max(4, round(ink.shape[0] * scale)))
    return np.clip(cv2.resize(ink, shape, interpolation=cv2.INTER_CUBIC), 0, 1)


def free_place(rng: np.random.Generator, boxes: list[tuple[int, int, int, int]], width: int, height: int) -> tuple[int, int] | None:
    """A corner (x, y) where the box covers little of the others, or None after 30 tries."""
    for _ in range(30):
        x, y = int(rng.integers(0, IMAGE_SIZE - width + 1)), int(rng.integers(0, IMAGE_SIZE - height + 1))
        covered = [
            max(0, min(x + width, r) - max(x, left)) * max(0, min(y + height, b) - max(y, t)) / min(width * height, (r - left) * (b - t))
            for left, t, r, b in boxes
        ]
        if all(share <= MAX_OVERLAP for share in covered):
            return x, y
    return None


def digest(folder: Path) -> str:
    """Content digest of a finished dataset: sha256 over annotations and decoded pixels (not PNG bytes, which vary by library)."""
    import cv2

    total = hashlib.sha256()
    for split in SPLITS:
        total.update((folder / f"{split}.json").read_bytes())
        for path in sorted((folder / split).glob("*.png")):
            pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
            total.update(pixels.tobytes() if pixels is not None else b"unreadable")
    return total.hexdigest()
