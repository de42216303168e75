"""The embedded dataset is what it says: sizes, disjoint scans, deterministic, nothing half-made."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

import workers.datasets.digits as digits
from workers.datasets import prepare, read_manifest


@pytest.fixture(scope="module")
def documents(data: Path) -> dict[str, dict]:
    return {split: json.loads((data / "digits" / f"{split}.json").read_text()) for split in digits.SPLITS}


def test_it_has_the_stated_number_of_images_and_objects(data: Path, documents: dict[str, dict]) -> None:
    for split, count in {"train": 3000, "val": 500}.items():
        assert len(documents[split]["images"]) == len(list((data / "digits" / split).glob("*.png"))) == count
        per_image = np.bincount([a["image_id"] for a in documents[split]["annotations"]], minlength=count)
        assert per_image.min() >= 2
        assert per_image.max() <= 6
        ids = [a["id"] for a in documents[split]["annotations"]]
        assert len(set(ids)) == len(ids)


def test_no_scan_of_validation_is_seen_in_training(documents: dict[str, dict]) -> None:
    train, val = ({a["scan"] for a in documents[split]["annotations"]} for split in ("train", "val"))
    assert train.isdisjoint(val)
    assert len(train) > 1000


def test_boxes_lie_inside_the_image_and_hold_their_mask(documents: dict[str, dict]) -> None:
    for a in documents["val"]["annotations"][:200]:
        x, y, width, height = a["bbox"]
        assert min(x, y) >= 0
        assert max(x + width, y + height) <= 128
        mask = coco_mask.decode({"size": a["segmentation"]["size"], "counts": a["segmentation"]["counts"].encode()})
        assert mask.sum() == a["area"] > 0
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert y <= rows[0] <= rows[-1] < y + height
        assert x <= columns[0] <= columns[-1] < x + width


def test_a_mask_touches_all_four_sides_of_its_box(documents: dict[str, dict]) -> None:
    for a in documents["val"]["annotations"][:200]:
        x, y, width, height = a["bbox"]
        mask = coco_mask.decode({"size": a["segmentation"]["size"], "counts": a["segmentation"]["counts"].encode()})
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (x, y, x + width, y + height)


def test_digits_are_of_all_sizes_and_their_labels_reach_beyond_them(documents: dict[str, dict]) -> None:
    longer = np.array([max(a["bbox"][2:]) for a in documents["train"]["annotations"]])
    assert longer.min() >= 12
    assert 90 < longer.max() <= 128
    assert 0.3 < (longer < 40).mean() < 0.7
    assert np.bincount([a["category_id"] for a in documents["train"]["annotations"]]).min() > 900  # all classes alike


def test_digits_lie_over_one_another_a_little(documents: dict[str, dict]) -> None:
    shares = []
    for image in range(200):
        boxes = [a["bbox"] for a in documents["train"]["annotations"] if a["image_id"] == image]
        for n, (x, y, w, h) in enumerate(boxes):
            for left, top, width, height in boxes[:n]:
                common = max(0, min(x + w, left + width) - max(x, left)) * max(0, min(y + h, top + height) - max(y, top))
                shares.append(common / min(w * h, width * height))
    assert max(shares) <= digits.MAX_OVERLAP
    assert np.mean(np.array(shares) > 0.05) > 0.1


def test_the_same_seed_gives_the_same_content(tmp_path: Path) -> None:
    import sklearn.datasets

    scans = sklearn.datasets.load_digits()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        digits.write_split(tmp_path / name, "val", 5, scans.images, scans.target, np.arange(50), np.random.default_rng(3))
    assert (tmp_path / "a/val.json").read_bytes() == (tmp_path / "b/val.json").read_bytes()
    assert all((tmp_path / f"a/val/{n:05d}.png").read_bytes() == (tmp_path / f"b/val/{n:05d}.png").read_bytes() for n in range(5))


def test_preparing_twice_gives_the_same_digest_at_once(data: Path) -> None:
    manifest = read_manifest(data / "digits")
    assert manifest is not None
    before = (data / "digits" / "train.json").stat().st_mtime_ns
    assert prepare("digits", data) == manifest["digest"]
    assert (data / "digits" / "train.json").stat().st_mtime_ns == before


def test_an_interrupted_generation_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "train").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(digits, "generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare("digits", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_leftover_is_replaced(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "train.json").write_text("{")

    def small(folder: Path) -> None:
        for split in digits.SPLITS:
            (folder / split).mkdir()
            (folder / f"{split}.json").write_text("{}")

    monkeypatch.setattr(digits, "generate", small)
    prepare("digits", tmp_path)
    assert (tmp_path / "digits" / "train.json").read_text() == "{}"
