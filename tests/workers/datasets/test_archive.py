"""A prepared dataset travels as one file and is the same dataset where it arrives."""

import json
from pathlib import Path

import pytest

from studies.trial import TrialFailure
from workers.datasets import digits, read_manifest
from workers.datasets.archive import pack, unpack
from workers.datasets.manifest import images_folder
from workers.files import file_sha256


def test_the_digits_arrive_as_they_were_made(data: Path, tmp_path: Path) -> None:
    pack("digits", data, tmp_path / "one.tar")
    pack("digits", data, tmp_path / "two.tar")
    assert file_sha256(tmp_path / "one.tar") == file_sha256(tmp_path / "two.tar")
    unpack(tmp_path / "one.tar", tmp_path / "there" / "digits")
    assert read_manifest(tmp_path / "there" / "digits") == read_manifest(data / "digits")
    assert digits.digest(tmp_path / "there" / "digits") == digits.digest(data / "digits")


@pytest.fixture
def registered(tmp_path: Path) -> Path:
    """A dataset whose files lie under a root of its own, with an image that its index leaves out."""
    root, folder = tmp_path / "srv", tmp_path / "data" / "pets"
    (root / "train" / "cats").mkdir(parents=True)
    folder.mkdir(parents=True)
    for name in ("cats/1.png", "left_out.png"):
        (root / "train" / name).write_bytes(name.encode())
    for split, image in {"train": "train/cats/1.png", "val": "train/cats/1.png"}.items():
        (folder / f"{split}.json").write_text(json.dumps({"images": [{"id": 1, "file_name": image}]}))
    manifest = {"digest": "d1", "classes": ["cat"], "root": str(root), "masks": False, "mirror": True, "broken": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path / "data"


def test_of_a_registered_dataset_the_images_that_count_arrive_and_are_found(registered: Path, tmp_path: Path) -> None:
    pack("pets", registered, tmp_path / "pets.tar")
    there = tmp_path / "there"
    unpack(tmp_path / "pets.tar", there / "pets")
    manifest = read_manifest(there / "pets")
    assert manifest
    assert manifest["digest"] == "d1"
    folder = images_folder(there, "pets", "val", manifest)
    assert folder == there / "pets" / "images"
    assert (folder / "train/cats/1.png").read_bytes() == b"cats/1.png"
    assert [path.name for path in folder.rglob("*.png")] == ["1.png"]


def test_an_image_outside_the_root_stops_it(registered: Path, tmp_path: Path) -> None:
    (registered / "pets" / "val.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "../secret.png"}]}))
    with pytest.raises(TrialFailure, match=r"data: the image '\.\./secret\.png' of dataset 'pets' lies outside its root"):
        pack("pets", registered, tmp_path / "pets.tar")


def test_an_image_that_is_gone_is_named(registered: Path, tmp_path: Path) -> None:
    (tmp_path / "srv" / "train/cats/1.png").unlink()
    with pytest.raises(TrialFailure, match=r"cats/1\.png of dataset 'pets' is missing; look it through with `retort data check pets`"):
        pack("pets", registered, tmp_path / "pets.tar")


def test_a_dataset_that_is_not_prepared_is_not_packed(tmp_path: Path) -> None:
    with pytest.raises(TrialFailure, match="data: dataset 'pets' is not prepared"):
        pack("pets", tmp_path, tmp_path / "pets.tar")
