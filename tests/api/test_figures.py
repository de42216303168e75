"""A study's pictures over REST, and as files of `retort figures`."""

from pathlib import Path

from fastapi.testclient import TestClient
from PIL import Image

from orchestrator.records.store import Store
from tests.api.conftest import SPEC, Driver
from tests.api.test_cli import Retort, retort

__all__ = ["retort"]  # the fixture


def test_a_study_has_the_pictures_that_its_results_allow(service: TestClient, store: Store) -> None:
    study = service.post("/v1/studies", json=SPEC).json()["id"]
    assert service.get(f"/v1/studies/{study}/figures").json() == {"items": []}
    Driver(store, study).train_all()
    items = service.get(f"/v1/studies/{study}/figures").json()["items"]
    assert [item["name"] for item in items] == ["learning-curves", "gains"]
    assert items[1] == {"name": "gains", "svg": f"/v1/studies/{study}/figures/gains.svg", "png": f"/v1/studies/{study}/figures/gains.png"}
    svg, png = (service.get(items[0][form]) for form in ("svg", "png"))
    assert (svg.headers["content-type"], png.headers["content-type"]) == ("image/svg+xml", "image/png")
    assert svg.content.startswith(b"<?xml")
    assert png.content.startswith(b"\x89PNG")


def test_what_is_not_there_is_a_problem(service: TestClient, store: Store) -> None:
    study = service.post("/v1/studies", json=SPEC).json()["id"]
    Driver(store, study).train_all()
    assert service.get("/v1/studies/99/figures").status_code == 404
    assert service.get("/v1/studies/99/figures/gains.svg").status_code == 404
    missing = service.get(f"/v1/studies/{study}/figures/attention.png")
    assert missing.status_code == 404
    assert missing.headers["content-type"] == "application/problem+json"
    assert service.get(f"/v1/studies/{study}/figures/gains.gif").status_code == 422


def test_the_command_writes_both_files_of_each(retort: Retort, store: Store, tmp_path: Path) -> None:
    retort("submit", "study.yaml")
    assert retort("figures", "1").stdout == "study 1 has nothing to draw yet\n"
    Driver(store, 1).train_all()
    done = retort("figures", "1", "--out", "drawn")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        f"{name}.{form}" for name in ("gains", "learning-curves") for form in ("png", "svg")
    ]
    assert Image.open(tmp_path / "drawn" / "gains.png").width > 800
