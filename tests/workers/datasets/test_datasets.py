"""Every dataset in its true format: good, incomplete and corrupt copies are told apart by name, and the good ones train."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS as DATASET_TYPES
from mmengine.registry import DefaultScope
from pycocotools import mask as coco_mask

from studies.catalog import DATASETS
from studies.datasets import datasets
from studies.recipes import RECIPES
from studies.spec import Network, Schedule
from studies.trial import ERROR_CURVES, TrialFailure, TrialSpec
from tests.workers import copies
from workers.datasets import check, prepare, read_manifest
from workers.datasets.images import LoadImage, UnreadableImage, dataset_config, manifest_of
from workers.detectors import build
from workers.training.progress import EpochReport
from workers.training.result import TrialResult
from workers.training.trial import run_trial
from workers.weights.store import Store

SPLITS = {"train": 4, "val": 2}
NAMES = ["coco", "voc", "cityscapes", "street"]
STUDENT = {"detector": "gfl", "backbone": "resnet18", "width": 8}
SCHEDULE = {"recipe": "smoke", "epochs": 2, "batch_size": 2, "lr": 1e-3, "max_iterations": 2}


def made(name: str, home: Path) -> Path:
    """A good copy of the dataset under `home`; gives the data folder."""
    data = home / "data"
    data.mkdir(parents=True, exist_ok=True)
    if name == "street":
        copies.registered(home, name, SPLITS)
    else:
        getattr(copies, name)(data / name, SPLITS)
    return data


def root_of(name: str, data: Path) -> Path:
    return data.parent / "elsewhere" if name == "street" else data / name


def first(root: Path, pattern: str) -> Path:
    return sorted(root.rglob(pattern))[0]


def failure(act: Callable[[], Any]) -> str:
    with pytest.raises(TrialFailure) as caught:
        act()
    assert caught.value.kind == "data"
    assert "\n" not in caught.value.sentence
    return caught.value.sentence


def trained(name: str, data: Path, folder: Path, told: list[EpochReport] | None = None, **changes: Any) -> TrialResult:
    spec = TrialSpec.model_validate(
        {"dataset": name, "scale": "nano", "network": STUDENT, "schedule": SCHEDULE, "seed": 0} | changes,
    )
    return run_trial(spec, folder, data, (told if told is not None else []).append)


@pytest.mark.parametrize("name", NAMES)
def test_a_good_copy_is_counted_and_trains(tmp_path: Path, name: str) -> None:
    data = made(name, tmp_path)
    report = check(name, data)
    assert report.images == ({"train": 8, "val": 2} if name == "voc" else SPLITS)
    assert report.broken == []
    assert len(report.objects) == {"coco": 2, "voc": 20, "cityscapes": 8, "street": 2}[name]
    result = trained(name, data, tmp_path / "trial")
    assert 0 <= result.metrics["AP"] <= 100
    assert result.metrics["AP50"] + sum(v for k, v in result.metrics.items() if k.startswith("err_")) == pytest.approx(100)
    assert {"mAP07", "AP90"} <= result.metrics.keys()
    assert len(json.loads((tmp_path / "trial" / ERROR_CURVES).read_text())["C50"]) == 101


@pytest.mark.parametrize("name", NAMES)
def test_preparing_reads_the_files_once_and_checking_reads_them_again(tmp_path: Path, name: str) -> None:
    data = made(name, tmp_path)
    digest = prepare(name, data)
    image = first(root_of(name, data), "*.png" if name == "cityscapes" else "*.jpg")
    other = sorted(image.parent.glob(f"*{image.suffix}"))[1]
    image.write_bytes(other.read_bytes())
    assert prepare(name, data) == digest
    assert check(name, data).digest != digest


@pytest.mark.parametrize("name", NAMES)
def test_the_digest_is_of_the_content_and_not_of_the_place(tmp_path: Path, name: str) -> None:
    assert check(name, made(name, tmp_path / "a")).digest == check(name, made(name, tmp_path / "b")).digest


@pytest.mark.parametrize(
    ("name", "lost", "origin"),
    [
        ("coco", "instances_val2017.json", "cocodataset.org"),
        ("coco", "000000000002.jpg", "cocodataset.org"),
        ("voc", "trainval.txt", "host.robots.ox.ac.uk"),
        ("voc", "*.xml", "host.robots.ox.ac.uk"),
        ("voc", "*.jpg", "host.robots.ox.ac.uk"),
        ("cityscapes", "*_gtFine_polygons.json", "cityscapes-dataset.com"),
        ("cityscapes", "*_leftImg8bit.png", "cityscapes-dataset.com"),
        ("street", "train.json", "street.yaml"),
    ],
)
def test_an_incomplete_copy_says_what_is_missing_and_where_it_comes_from(tmp_path: Path, name: str, lost: str, origin: str) -> None:
    data = made(name, tmp_path)
    prepare(name, data)
    path = first(root_of(name, data), lost)
    path.unlink()
    sentence = failure(lambda: check(name, data))
    assert path.name in sentence
    assert origin in sentence
    assert read_manifest(data / name) is None  # no trial starts on it
    assert "not prepared" in failure(lambda: trained(name, data, tmp_path / "trial"))


@pytest.mark.parametrize("name", ["coco", "voc", "cityscapes"])
def test_a_dataset_that_is_not_there_says_where_it_comes_from(tmp_path: Path, name: str) -> None:
    sentence = failure(lambda: prepare(name, tmp_path / "data"))
    assert "missing" in sentence
    assert "http" in sentence
    assert str(tmp_path / "data" / name) in sentence


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_image_stops_the_trial_or_is_skipped_and_counted(tmp_path: Path, name: str) -> None:
    data = made(name, tmp_path)
    path = first(root_of(name, data), "*.png" if name == "cityscapes" else "*.jpg")
    path.write_bytes(path.read_bytes()[:-400])
    report = check(name, data)
    (broken,) = report.broken
    assert (broken.kind, Path(broken.name).name) == ("image", path.name)
    sentence = failure(lambda: trained(name, data, tmp_path / "stopped"))
    assert path.name in sentence
    assert "on_broken: skip" in sentence
    told: list[EpochReport] = []
    result = trained(name, data, tmp_path / "skipped", told, on_broken="skip")
    assert told[-1].metrics["skipped_images"] == 1
    assert "1 broken" in result.environment["dataset"]


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def edited(part: str, **changes: Any) -> Callable[[Path], None]:
    """Changes the first entry of a part of the first annotation file."""
    return lambda root: change(first(root, "*train*.json"), lambda document: document[part][0].update(changes))


def rewritten(pattern: str, old: str, new: str) -> Callable[[Path], None]:
    def rewrite(root: Path) -> None:
        path = first(root, pattern)
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return rewrite


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("coco", edited("annotations", bbox=[1, 2, float("nan"), 4]), "000000000000.jpg #500 (train): its box is not four numbers"),
        ("coco", edited("annotations", bbox=[1, 2, -3, 4]), "negative size"),
        ("coco", edited("annotations", bbox=[200, 2, 3, 4]), "outside the image"),
        ("coco", edited("annotations", category_id=99), "category 99"),
        ("coco", edited("annotations", image_id=99), "image 99"),
        ("coco", edited("annotations", segmentation=[[1, 2, 3]]), "polygon"),
        ("coco", edited("images", width=None), "000000000000.jpg (train): its entry has no width"),
        ("coco", edited("images", width=50), "its annotation says 50x64"),
        ("street", edited("annotations", category_id=99), "category 99"),
        ("voc", rewritten("*.xml", "<name>person", "<name>unicorn"), "'unicorn'"),
        ("voc", rewritten("*.xml", "<xmin>", "<xmin>wide"), "000000.xml #1 (train): its box is not four numbers"),
        ("voc", rewritten("*.xml", "</annotation>", ""), "not an XML file"),
        ("cityscapes", rewritten("*polygons.json", '{"imgHeight"', '"imgHeight"'), "not a polygon file"),
        (
            "cityscapes",
            rewritten("*polygons.json", "[[10, 20], [49, 20], [49, 49], [10, 49]]", "[[10, 20], [49, 20]]"),
            "#2 (train): its polygon",
        ),
    ],
)
def test_a_broken_annotation_is_named_and_left_out(tmp_path: Path, name: str, damage: Callable[[Path], None], told: str) -> None:
    data = made(name, tmp_path)
    whole = check(name, data)
    damage(root_of(name, data))
    report = check(name, data)
    assert any(told in str(broken) for broken in report.broken), report.broken
    assert report.digest != whole.digest
    assert sum(sum(counts.values()) for counts in report.objects.values()) < sum(sum(counts.values()) for counts in whole.objects.values())
    manifest = read_manifest(data / name)
    assert manifest is not None
    assert len(manifest["broken"]) == len(report.broken)


def test_an_annotation_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    data = made("coco", tmp_path)
    path = first(data / "coco", "instances_train2017.json")
    path.write_text(path.read_text()[:-20])
    assert "instances_train2017.json" in failure(lambda: prepare("coco", data))


def test_coco_labels_follow_the_ids_and_masks_are_kept(tmp_path: Path) -> None:
    data = made("coco", tmp_path)
    prepare("coco", data)
    manifest = read_manifest(data / "coco")
    assert manifest is not None
    assert manifest["classes"] == ["car", "dog"]  # ids 3 and 18
    assert manifest["masks"]
    index = json.loads((data / "coco" / "train.json").read_text())
    assert [a["category_id"] for a in index["annotations"][:2]] == [1, 2]
    assert index["annotations"][-1]["iscrowd"] == 1


def test_voc_boxes_count_from_zero_and_difficult_objects_are_crowds(tmp_path: Path) -> None:
    data = made("voc", tmp_path)
    prepare("voc", data)
    index = json.loads((data / "voc" / "val.json").read_text())
    corners = copies.boxes_of(np.random.default_rng(2), 2)
    expected = [[x1, y1, x2 - x1 + 1, y2 - y1 + 1] for x1, y1, x2, y2 in corners]
    assert [a["bbox"] for a in index["annotations"][:2]] == expected
    assert [a["iscrowd"] for a in index["annotations"][:2]] == [0, 1]
    assert (index["images"][0]["width"], index["images"][0]["height"]) == copies.SHAPE


def test_cityscapes_masks_show_what_is_visible(tmp_path: Path) -> None:
    data = made("cityscapes", tmp_path)
    prepare("cityscapes", data)
    index = json.loads((data / "cityscapes" / "val.json").read_text())
    names = {category["id"]: category["name"] for category in index["categories"]}
    car, person, group = index["annotations"][:3]
    assert [names[a["category_id"]] for a in (car, person, group)] == ["car", "person", "car"]
    assert [a["iscrowd"] for a in (car, person, group)] == [0, 0, 1]
    assert person["area"] == 15 * 50
    assert car["area"] == 30 * 30  # columns 40 to 49 are behind the person; the licence plate leaves no hole
    assert car["bbox"] == [10, 20, 30, 30]
    assert group["area"] == 21 * 11 - 2 * 11  # the pole is in front
    mask = coco_mask.decode({**car["segmentation"], "counts": car["segmentation"]["counts"].encode()})
    assert mask[31, 22] == 1


def of_masks(name: str) -> TrialSpec:
    network = Network(detector="mask_rcnn", backbone="resnet50")
    return TrialSpec(dataset=name, scale="paper", network=network, schedule=Schedule(), seed=0)


@pytest.mark.parametrize("name", ["coco", "cityscapes"])
def test_masks_are_read_for_networks_that_learn_them(tmp_path: Path, name: str) -> None:
    data = made(name, tmp_path)
    prepare(name, data)
    manifest = manifest_of(name, data, "stop")
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = DATASET_TYPES.build(dataset_config(of_masks(name), data, "train", manifest, RECIPES["1x"], masks=True))
        objects = dataset[0]["data_samples"].gt_instances
    assert len(objects) == 2
    for mask, box in zip(objects.masks.masks, objects.bboxes.tensor.tolist(), strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] == pytest.approx(box, abs=20)  # blown up more than 12 times


def test_a_network_of_masks_needs_a_dataset_with_masks(tmp_path: Path) -> None:
    data = made("voc", tmp_path)
    prepare("voc", data)
    with pytest.raises(TrialFailure, match="has none"):
        dataset_config(of_masks("voc"), data, "train", manifest_of("voc", data, "stop"), RECIPES["1x"], masks=True)


def test_a_network_of_masks_that_is_taken_as_it_is_needs_none_and_is_scored_by_its_boxes(tmp_path: Path) -> None:
    data = made("voc", tmp_path)
    prepare("voc", data)
    network = STUDENT | {"detector": "mask_rcnn"}
    torch.save({"state_dict": build(Network(**network), 20).state_dict()}, tmp_path / "masks.pth")
    Store(tmp_path / "weights").import_file("lab/masks", tmp_path / "masks.pth")
    result = trained("voc", data, tmp_path / "taken", network=network, weights="lab/masks")
    assert {"AP", "Params", "FPS"} <= result.metrics.keys()
    assert not any(name.startswith("mask_") for name in result.metrics)
    with pytest.raises(TrialFailure, match="has none"):
        trained("voc", data, tmp_path / "trained", network=network)


def test_a_registered_dataset_is_in_the_catalogue_with_its_counts_once_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    data = made("street", tmp_path)
    assert (datasets()["street"].train_images, datasets()["street"].masks) == (None, None)
    prepare("street", data)
    entry = datasets()["street"]
    assert (entry.title, entry.classes, entry.train_images, entry.val_images, entry.masks) == ("Street", 2, 4, 2, True)
    assert datasets().keys() == {*DATASETS, "street"}


def test_a_registration_that_changes_is_read_anew(tmp_path: Path) -> None:
    data = made("street", tmp_path)
    digest = prepare("street", data)
    path = tmp_path / "datasets" / "street.yaml"
    path.write_text(path.read_text().replace("[dog, car]", "[car, dog]"))
    assert prepare("street", data) != digest


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("title: [", "cannot be read"),
        ("title: x", "root"),
        ("- 1", "mapping"),
        ("colour: red", "colour"),
    ],
)
def test_a_registration_that_is_wrong_is_told_and_left_out_of_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "street.yaml").write_text(text)
    sentence = failure(lambda: prepare("street", tmp_path / "data"))
    assert "street.yaml" in sentence
    assert told in sentence
    assert "street" not in datasets()


def test_registered_classes_must_be_those_of_the_annotation_file(tmp_path: Path) -> None:
    data = made("street", tmp_path)
    path = tmp_path / "datasets" / "street.yaml"
    path.write_text(path.read_text().replace("[dog, car]", "[dog, cat]"))
    sentence = failure(lambda: prepare("street", data))
    assert "car, cat" in sentence


def test_a_name_of_the_catalogue_cannot_be_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    copies.registered(tmp_path, "coco", SPLITS)
    assert datasets()["coco"] == DATASETS["coco"]


def test_digits_that_changed_on_disk_are_told(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    for name in ("train", "val"):
        (folder / name).mkdir()
        for image in (data / "digits" / name).iterdir():
            (folder / name / image.name).symlink_to(image)
    for name in ("train.json", "val.json", "manifest.json"):
        (folder / name).write_bytes((data / "digits" / name).read_bytes())
    report = check("digits", tmp_path)
    assert report.digest == read_manifest(folder)["digest"]
    assert report.images == report.published == {"train": 3000, "val": 500}
    (folder / "val" / "00000.png").unlink()
    assert "00000.png" in failure(lambda: check("digits", tmp_path))
    (folder / "val" / "00000.png").write_bytes(b"no image")
    assert [Path(broken.name).name for broken in check("digits", tmp_path).broken] == ["00000.png"]
    (folder / "val" / "00000.png").write_bytes((folder / "val" / "00001.png").read_bytes())
    assert "not as it was made" in failure(lambda: check("digits", tmp_path))


def test_an_image_lost_after_the_check_is_named(tmp_path: Path) -> None:
    data = made("coco", tmp_path)
    prepare("coco", data)
    first(data / "coco" / "train2017", "*.jpg").write_bytes(b"")
    assert "000000000000.jpg" in failure(lambda: trained("coco", data, tmp_path / "trial"))


def test_the_loaders_sentence_survives_the_way_from_another_process(tmp_path: Path) -> None:
    from torch._utils import ExceptionWrapper

    with pytest.raises(UnreadableImage) as caught:
        LoadImage().transform({"img_path": str(tmp_path / "gone.jpg")})
    try:
        raise caught.value
    except UnreadableImage:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(UnreadableImage) as again:
        wrapped.reraise()
    assert again.value.sentence == caught.value.sentence
