"""`retort data check` and a registered dataset's way into the catalogue and a spec."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

from api.command.cli import app
from tests.api.conftest import SPEC
from tests.workers import copies


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    return tmp_path


def retort(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_a_good_dataset_is_counted_by_split_and_category(home: Path) -> None:
    copies.voc(home / "data" / "voc", {"train": 3, "val": 2})
    done = retort("data", "check", "voc")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["train", "6", "images", "(the", "whole", "dataset", "has", "16,551),", "12", "objects"] in lines
    assert ["dog", "6", "2"] in lines
    assert ["sheep", "0", "0"] in lines
    assert any(line[:1] == ["digest"] and len(line[1]) == 64 for line in lines)


def test_an_incomplete_dataset_is_one_sentence_and_exit_status_1(home: Path) -> None:
    copies.coco(home / "data" / "coco", {"train": 2, "val": 2})
    (home / "data" / "coco" / "val2017" / "000000000001.jpg").unlink()
    done = retort("data", "check", "coco")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "missing val2017/000000000001.jpg; it comes from https://cocodataset.org" in done.stderr


def test_a_corrupt_image_is_listed_and_exit_status_1(home: Path) -> None:
    copies.cityscapes(home / "data" / "cityscapes", {"train": 2, "val": 1})
    image = home / "data" / "cityscapes" / "leftImg8bit" / "train" / "ulm" / "ulm_000001_000019_leftImg8bit.png"
    image.write_bytes(image.read_bytes()[:500])
    done = retort("data", "check", "cityscapes")
    assert done.exit_code == 1
    assert "1 broken" in done.stdout
    assert f"image {image.relative_to(home / 'data' / 'cityscapes')} (train): it cannot be decoded" in done.stdout


def test_an_unknown_dataset_says_how_one_is_registered(home: Path) -> None:
    done = retort("data", "check", "pets")
    assert done.exit_code == 1
    assert str(home / "datasets" / "pets.yaml") in done.stderr


def test_a_registered_dataset_is_listed_and_may_be_named_in_a_spec(home: Path, service: TestClient) -> None:
    study = {**SPEC, "dataset": "street"}
    refused = service.post("/v1/studies:plan", json=study)
    assert refused.status_code == 422
    assert "unknown dataset 'street'" in refused.json()["errors"][0]["message"]
    copies.registered(home, "street", {"train": 2, "val": 2})
    entry = {item["id"]: item for item in service.get("/v1/catalog/datasets").json()["items"]}["street"]
    assert entry == {"id": "street", "title": "Street", "classes": 2, "train_images": None, "val_images": None, "masks": None}
    assert service.post("/v1/studies:plan", json=study).status_code == 200
    assert retort("data", "check", "street").exit_code == 0
    entry = {item["id"]: item for item in service.get("/v1/catalog/datasets").json()["items"]}["street"]
    assert (entry["train_images"], entry["val_images"], entry["masks"]) == (2, 2, True)


@pytest.mark.parametrize("path", ["/etc", "../elsewhere", "street.yaml", "data/street"])
def test_a_path_is_never_a_dataset(home: Path, service: TestClient, path: str) -> None:
    copies.registered(home, "street", {"train": 2, "val": 2})
    assert service.post("/v1/studies:plan", json={**SPEC, "dataset": path}).status_code == 422
    assert retort("data", "check", path).exit_code == 1
