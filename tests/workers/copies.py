"""Small copies of COCO, VOC and Cityscapes in their true formats: real JPEG, PNG, XML and polygon files, a few images each."""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPE = (96, 64)  # width, height


def picture(path: Path, rng: np.random.Generator, boxes: list[tuple[int, int, int, int]]) -> None:
    """Noise with bright rectangles where the objects are."""
    image = Image.fromarray(rng.integers(0, 90, (SHAPE[1], SHAPE[0], 3), dtype=np.uint8))
    for box in boxes:
        ImageDraw.Draw(image).rectangle(box, fill=tuple(int(value) for value in rng.integers(150, 255, 3)))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def boxes_of(rng: np.random.Generator, count: int) -> list[tuple[int, int, int, int]]:
    """Corners x1, y1, x2, y2 in pixels, the last one included."""
    corners = []
    for _ in range(count):
        x, y = int(rng.integers(0, SHAPE[0] - 40)), int(rng.integers(0, SHAPE[1] - 40))
        corners.append((x, y, x + int(rng.integers(12, 38)), y + int(rng.integers(12, 38))))
    return corners


def coco(root: Path, splits: dict[str, int], annotations: str = "annotations/instances_{}2017.json", images: str = "{}2017") -> None:
    """COCO's layout: two of its categories with their gaps in the ids, polygons as masks, a crowd in every split."""
    for number, (split, count) in enumerate(splits.items()):
        rng = np.random.default_rng(number)
        document: dict[str, list] = {"images": [], "annotations": [], "categories": []}
        document["categories"] = [
            {"id": 18, "name": "dog", "supercategory": "animal"},
            {"id": 3, "name": "car", "supercategory": "vehicle"},
        ]
        for index in range(count):
            boxes = boxes_of(rng, 2)
            name = f"{index:012d}.jpg"
            picture(root / images.format(split) / name, rng, boxes)
            document["images"].append({"id": 1000 + index, "file_name": name, "width": SHAPE[0], "height": SHAPE[1]})
            for x1, y1, x2, y2 in boxes:
                w, h = x2 - x1 + 1, y2 - y1 + 1
                document["annotations"].append(
                    {
                        "id": len(document["annotations"]) + 500,
                        "image_id": 1000 + index,
                        "category_id": (3, 18)[len(document["annotations"]) % 2],
                        "bbox": [x1, y1, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                        "segmentation": [[x1, y1, x1 + w, y1, x1 + w, y1 + h, x1, y1 + h]],
                    }
                )
        crowd = document["annotations"][-1]
        crowd.update(iscrowd=1, segmentation={"size": [SHAPE[1], SHAPE[0]], "counts": [100, 200, SHAPE[0] * SHAPE[1] - 300]})
        path = root / annotations.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))


def voc(root: Path, splits: dict[str, int]) -> None:
    """VOCdevkit with 2007 trainval, 2012 trainval (`train` images each) and 2007 test (`val`)."""
    for number, (year, part, count) in enumerate(
        (("VOC2007", "trainval", splits["train"]), ("VOC2012", "trainval", splits["train"]), ("VOC2007", "test", splits["val"]))
    ):
        rng, folder = np.random.default_rng(number), root / "VOCdevkit" / year
        names = [f"{number}{index:05d}" for index in range(count)]
        for name in names:
            boxes = boxes_of(rng, 2)
            picture(folder / "JPEGImages" / f"{name}.jpg", rng, boxes)
            objects = "".join(voc_object("dog" if n else "person", box, difficult=n) for n, box in enumerate(boxes))
            path = folder / "Annotations" / f"{name}.xml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"<annotation><filename>{name}.jpg</filename>{objects}</annotation>")
        listing = folder / "ImageSets" / "Main" / f"{part}.txt"
        listing.parent.mkdir(parents=True, exist_ok=True)
        listing.write_text("\n".join(names) + "\n")


def voc_object(name: str, box: tuple[int, int, int, int], difficult: int = 0) -> str:
    """An <object>; VOC counts pixels from 1."""
    sides = "".join(f"<{side}>{value + 1}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>"


def cityscapes(root: Path, splits: dict[str, int]) -> None:
    """leftImg8bit and gtFine of one town: a road, a car half behind a person, a group of cars."""
    for number, (split, count) in enumerate(splits.items()):
        rng = np.random.default_rng(number)
        for index in range(count):
            name = f"ulm_{index:06d}_000019"
            picture(root / "leftImg8bit" / split / "ulm" / f"{name}_leftImg8bit.png", rng, [(10, 20, 49, 49), (40, 10, 54, 59)])
            things = [
                {"label": "road", "polygon": [[0, 40], [95, 40], [95, 63], [0, 63]]},
                {"label": "car", "polygon": [[10, 20], [49, 20], [49, 49], [10, 49]]},
                {"label": "license plate", "polygon": [[20, 30], [24, 30], [24, 33], [20, 33]]},
                {"label": "person", "polygon": [[40, 10], [54, 10], [54, 59], [40, 59]]},
                {"label": "cargroup", "polygon": [[70, 20], [90, 20], [90, 30], [70, 30]]},
                {"label": "pole", "polygon": [[80, 0], [81, 0], [81, 63], [80, 63]]},
            ]
            path = root / "gtFine" / split / "ulm" / f"{name}_gtFine_polygons.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"imgHeight": SHAPE[1], "imgWidth": SHAPE[0], "objects": things}))


def registered(home: Path, name: str, splits: dict[str, int]) -> None:
    """A user's own dataset: files somewhere else, and the YAML that registers them."""
    coco(home / "elsewhere", splits, annotations="{}.json", images="{}-pictures")
    (home / "datasets").mkdir(exist_ok=True)
    (home / "datasets" / f"{name}.yaml").write_text(
        "title: Street\nroot: ../elsewhere\nclasses: [dog, car]\n"
        "train: {annotations: train.json, images: train-pictures}\nval: {annotations: val.json, images: val-pictures}\n"
    )
