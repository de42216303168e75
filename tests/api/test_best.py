"""What a search found over REST and by `retort best`, its pictures, and a search of one arm alone."""

from pathlib import Path

import yaml
from fastapi.testclient import TestClient

from orchestrator.records.store import Store
from tests.api.conftest import SPEC
from tests.api.test_cli import Retort, retort
from tests.orchestrator.conftest import Driven
from tests.orchestrator.searching.formulas import a_search, drive

__all__ = ["retort"]  # the fixture


def searched(store: Store, folder: Path, study: int) -> None:
    """Drives a study to its end."""
    attempt = store.new_attempt(study)
    assert attempt
    store.start_attempt(study, attempt.number)
    drive(Driven(store, study, folder, attempt.number), a_search())


def test_the_best_values_come_with_fresh_seeds_and_in_a_spec_that_can_be_submitted(
    service: TestClient, store: Store, tmp_path: Path
) -> None:
    spec, key = a_search().model_dump(mode="json"), {"Idempotency-Key": "monday"}
    study = service.post("/v1/studies", json=spec, headers=key).json()["id"]
    before = service.get(f"/v1/studies/{study}/best").json()
    assert (before["final"], before["items"]) == (False, [])
    searched(store, tmp_path, study)
    found = service.get(f"/v1/studies/{study}/best").json()
    assert found["final"]
    (best,) = found["items"]
    assert (best["arm"], best["title"]) == ("ld", "LD")
    (goal,) = best["goals"]
    assert goal["metric"] == "AP"
    assert 0 < goal["confirmed"] - goal["searched"] < 0.2  # a tenth of a point a seed
    arm = next(arm for arm in found["spec"]["arms"] if arm["id"] == "ld")
    assert arm["options"]["temperature"] == best["values"]["options.temperature"]
    assert service.post("/v1/studies:plan", json=found["spec"]).status_code == 200
    assert service.post("/v1/studies", json=spec, headers=key).json()["id"] == study  # though its table has grown
    names = [item["name"] for item in service.get(f"/v1/studies/{study}/figures").json()["items"]]
    assert names[-3:] == ["search-ld-history", "search-ld-importance", "search-ld-slices"]
    drawn = service.get(f"/v1/studies/{study}/figures/search-ld-importance.png")
    assert drawn.content.startswith(b"\x89PNG")


def test_a_study_that_draws_nothing_has_no_best(service: TestClient) -> None:
    study = service.post("/v1/studies", json=SPEC).json()["id"]
    refused = service.get(f"/v1/studies/{study}/best")
    assert refused.status_code == 409
    assert "its spec has no search with an algorithm" in refused.json()["detail"]
    assert service.get("/v1/studies/99/best").status_code == 404


def test_the_command_prints_the_best_and_submits_one_arms_search_alone(retort: Retort, store: Store, tmp_path: Path) -> None:
    spec = a_search().model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(spec))
    unknown = retort("submit", "search.yaml", "--search-only", "fitnet")
    assert (unknown.returncode, unknown.stderr) == (1, "--search-only: no arm 'fitnet' in this study; its arms: student, ld\n")
    assert retort("submit", "search.yaml", "--search-only", "ld").returncode == 0
    assert [arm["id"] for arm in store.study(1).spec["arms"]] == ["ld"]
    assert "still searches" in retort("best", "1").stdout
    searched(store, tmp_path, 1)
    printed = retort("best", "1").stdout
    assert printed.startswith("LD [temperature=")
    assert "with fresh seeds" in printed
    written = yaml.safe_load(retort("best", "1", "--format", "yaml").stdout)
    assert "search" not in written
    assert written["arms"][0]["distiller"] == "ld"
