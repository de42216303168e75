"""The page on adding a dataset, done as it says: a package that reads tables of boxes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.workers.copies import boxes_of, picture
from tests.workers.package_page import install, run

CHECK = """
import json
from pathlib import Path

from studies.datasets import datasets
from workers.datasets import prepare
from workers.datasets.check import check

report = check("boxes", Path("home/data"))
manifest = json.loads(Path("home/data/boxes/manifest.json").read_text())
print(json.dumps({
    "title": datasets()["boxes"].title,
    "objects": report.objects,
    "broken": [str(broken) for broken in report.broken],
    "classes": manifest["classes"],
    "digest": prepare("boxes", Path("home/data")) == report.digest,
}))
"""

TRAIN = """
import json
from pathlib import Path

from studies.documents import read_document
from studies.parse import parse_study
from workers.local import run_locally

study = parse_study({**read_document(Path("study.yaml").read_text(), "yaml"), "on_broken": "skip"})
result, folder = run_locally(study, "student", 0, Path("home"), lambda trial, epoch: None)
print(json.dumps(result.metrics))
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The package and its files: 12 + 4 images with two boxes each, one of them of an unknown class."""
    install("add-a-dataset.md", tmp_path)
    root, rng = tmp_path / "home" / "data" / "boxes", np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        root.mkdir(parents=True, exist_ok=True)
        with (root / f"{split}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", "x", "y", "w", "h", "class"])
            for number in range(count):
                boxes = boxes_of(rng, 2)
                picture(root / "images" / f"{split}-{number}.jpg", rng, boxes)
                for (x1, y1, x2, y2), name in zip(boxes, ("cat", "car"), strict=True):
                    kind = "bird" if (split, number, name) == ("train", 3, "car") else name
                    table.writerow([f"images/{split}-{number}.jpg", x1, y1, x2 - x1 + 1, y2 - y1 + 1, kind])
    return tmp_path


def checked(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(folder, CHECK, RETORT_HOME=str(folder / "home")).splitlines()[-1])
    return found


def test_it_is_read_and_checked(installed: Path) -> None:
    assert checked(installed) == {
        "title": "Boxes in tables",
        "objects": {"cat": {"train": 12, "val": 4}, "dog": {"train": 0, "val": 0}, "car": {"train": 11, "val": 4}},
        "broken": ["annotation train.csv line 9 (train): its class 'bird' is unknown"],
        "classes": ["cat", "dog", "car"],
        "digest": True,
    }


def test_it_trains(installed: Path) -> None:
    metrics = json.loads(run(installed, TRAIN, RETORT_HOME=str(installed / "home")).splitlines()[-1])
    assert 0 <= metrics["AP"] <= 100


def test_a_changed_reader_reads_anew(installed: Path) -> None:
    """The classes change, the files do not."""
    module = installed / "retort_boxes.py"
    checked(installed)
    module.write_text(module.read_text().replace('"car": "vehicle"', '"car": "vehicle", "bird": "animal"'))
    code = "from pathlib import Path\nfrom workers.datasets import prepare\nprepare('boxes', Path('home/data'))"
    run(installed, code, RETORT_HOME=str(installed / "home"))
    manifest = json.loads((installed / "home/data/boxes/manifest.json").read_text())
    assert manifest["classes"] == ["cat", "dog", "car", "bird"]
    assert manifest["broken"] == []
