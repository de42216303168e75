"""The embedded dataset: scenes of handwritten digits, composed from the 1,797 real 8x8 scans that scikit-learn ships.

Small enough to learn in CPU minutes, hard enough that a better network shows. Each digit is turned, stretched, soft and fading, and
lies on a faint label: an object's class is read from the digit, its box and mask are the label's, whose edges are hard to see. No scan
of a validation image is ever seen in training.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

IMAGE_SIZE = 128  # pixels
CLASSES = 10
SPLITS = {"train": 3000, "val": 500}  # images
DIGITS_PER_IMAGE = (2, 6)
DIGIT_SIZE = (18.0, 52.0)  # pixels, log-uniform, of a scan's longer side before it is turned and stretched
TURN = 15.0  # degrees, either way
STRETCH = 1.35  # most that a digit is widened or narrowed
BLUR = 0.04  # most, as standard deviation over size
OPACITY = (0.75, 1.0)  # of digits and strokes
FADING = (0.4, 1.0)  # opacity that is left where a digit ends, on the side that it fades to
MARGINS = (0.0, 0.35)  # from a digit to the end of its label, on each side, over the digit's longer side
LABEL_OPACITY = (0.12, 0.4)  # so faint that the larger part of the work is to see where a label ends
LABEL_BLUR = (0.01, 0.06)  # standard deviation over the label's shorter side
EDGE = 12  # pixels around a label, for its soft edge
INK = 0.3  # opacity from which a pixel of the sharp digit belongs to it
MAX_OVERLAP = 0.25  # share of the smaller box that a neighbour may cover
HALO = 3  # pixels around the turned digit, for its soft edge
STROKES = (0, 2)  # lines across the scene, over the digits
SEED = 20
FORMAT = 2  # raise when the scenes change: the digest follows from what is written


def generate(folder: Path) -> None:
    """Writes `<split>/*.png` and `<split>.json` (COCO format with boxes and masks) into an existing empty folder."""
    scans, labels, pools = scans_of_splits()
    for number, (split, count) in enumerate(SPLITS.items()):
        rng = np.random.default_rng([SEED, number])
        write_split(folder, split, count, scans, labels, pools[split], rng)


def scans_of_splits() -> tuple[NDArray[Any], NDArray[Any], dict[str, NDArray[Any]]]:
    """All scans (1797, 8, 8) of ink from 0 to 16, their classes, and which of them make the scenes of each split."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    shuffled = np.random.default_rng(SEED).permutation(len(scans.images))
    cut = int(len(shuffled) * 0.8)
    return scans.images, scans.target, {"train": shuffled[:cut], "val": shuffled[cut:]}


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
        "categories": [{"id": digit, "name": str(digit)} for digit in range(CLASSES)],
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
        sharp = glyph(rng, scans[scan], float(np.exp(rng.uniform(*np.log(DIGIT_SIZE)))))
        rows, columns = np.flatnonzero((sharp > INK).any(1)), np.flatnonzero((sharp > INK).any(0))
        left, top, inked = columns[0], rows[0], (columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
        before, after = rng.uniform(*MARGINS, (2, 2)) * max(inked)
        width, height = (int(each) for each in np.rint(before + inked + after))
        place = free_place(rng, boxes, width, height) if max(width, height) <= IMAGE_SIZE else None
        if place is None:
            wanted -= 1 if len(objects) >= DIGITS_PER_IMAGE[0] else 0
            continue
        x, y = place
        shape = label(rng, width, height)
        paint(scene, blurred(rng, shape), x - EDGE, y - EDGE, rng.uniform(20, 255, 3), rng.uniform(*LABEL_OPACITY))
        paint(scene, soften(rng, sharp), x + round(before[0]) - left, y + round(before[1]) - top, rng.uniform(120, 255, 3))
        mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        mask[y : y + height, x : x + width] = shape > 0
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
    strike(rng, scene)
    noisy = scene + rng.normal(0, rng.uniform(2, 8), scene.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), objects


def background(rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth random field (H, W, 3): coarse noise blown up, around a random darker colour than the digits have."""
    import cv2

    cells = int(rng.integers(2, 7))
    field = cv2.resize(rng.normal(0, 1, (cells, cells, 3)), (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_CUBIC)
    return np.clip(rng.uniform(20, 130, 3) + rng.uniform(8, 25) * field, 0, 255)


def glyph(rng: np.random.Generator, scan: NDArray[Any], size: float) -> NDArray[np.float32]:
    """The scan (8, 8) as an opacity map (S, S), its ink about `size` pixels long, turned and stretched about the middle of the map."""
    import cv2

    rows, columns = np.flatnonzero(scan.max(1) > 3), np.flatnonzero(scan.max(0) > 3)
    ink = scan[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32) / 16
    stretch = STRETCH ** rng.uniform(-0.5, 0.5)
    angle = np.deg2rad(rng.uniform(-TURN, TURN))
    scale = size / max(ink.shape) * np.array([stretch, 1 / stretch])
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    side = min(int(np.ceil(np.hypot(*(scale * ink.shape[::-1])))) + 2 * HALO, IMAGE_SIZE)
    middle = (side - 1) / 2 - turned @ (np.array(ink.shape[::-1]) - 1) / 2
    drawn = cv2.warpAffine(ink, np.column_stack([turned, middle]), (side, side), flags=cv2.INTER_CUBIC)
    return np.clip(drawn, 0, 1)


def soften(rng: np.random.Generator, sharp: NDArray[np.float32]) -> NDArray[np.float32]:
    """The digit as it is seen: soft-edged, see-through, and fading towards one side."""
    import cv2

    side = len(sharp)
    blurred = cv2.GaussianBlur(sharp, (0, 0), max(0.1, rng.uniform(0, BLUR) * side))
    towards = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:side, :side]
    along = np.cos(towards) * x + np.sin(towards) * y
    inked = along[sharp > INK]
    past = np.clip((along - inked.min()) / max(1e-6, np.ptp(inked)), 0, 1)  # 0 where the digit begins, 1 where it ends
    fading = 1 - (1 - rng.uniform(*FADING)) * past**2
    return np.clip(blurred * fading * rng.uniform(*OPACITY), 0, 1)


def label(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """A patch (height, width) between an ellipse and a rectangle that touches all four sides: 1 inside, 0 outside."""
    y, x = (np.abs((np.arange(side) + 0.5) * 2 / side - 1) for side in (height, width))
    power = rng.uniform(2, 6)
    inside = y[:, None] ** power + x[None] ** power <= 1
    inside[[0, -1], width // 2] = inside[height // 2, [0, -1]] = True
    return inside.astype(np.float32)


def blurred(rng: np.random.Generator, shape: NDArray[np.float32]) -> NDArray[np.float32]:
    """The patch with soft edges and `EDGE` pixels more on every side."""
    import cv2

    spread = rng.uniform(*LABEL_BLUR) * min(shape.shape)
    return cv2.GaussianBlur(np.pad(shape, EDGE), (0, 0), max(0.1, spread))


def paint(
    scene: NDArray[np.float64], alpha: NDArray[np.float32], x: int, y: int, colour: NDArray[np.float64], opacity: float = 1.0
) -> None:
    """Lays a colour over the scene in place, where `alpha` with its corner at (x, y) says; what reaches over the edge is cut."""
    left, top, right, bottom = max(0, x), max(0, y), min(IMAGE_SIZE, x + alpha.shape[1]), min(IMAGE_SIZE, y + alpha.shape[0])
    patch = scene[top:bottom, left:right]
    patch += opacity * alpha[top - y : bottom - y, left - x : right - x, None] * (colour - patch)


def strike(rng: np.random.Generator, scene: NDArray[np.float64]) -> None:
    """Draws lines across the scene, in place: what lies under them is hidden, and they look like strokes of a digit."""
    import cv2

    for _ in range(int(rng.integers(STROKES[0], STROKES[1] + 1))):
        ends = rng.integers(0, IMAGE_SIZE, 4)
        drawn = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
        cv2.line(drawn, tuple(map(int, ends[:2])), tuple(map(int, ends[2:])), 1.0, int(rng.integers(1, 5)), cv2.LINE_AA)
        paint(scene, drawn * np.float32(rng.uniform(*OPACITY)), 0, 0, rng.uniform(20, 255, 3))


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
