"""Health: the process lives, the database answers, and what the orchestrator's loops last said."""

from importlib.metadata import version
from pathlib import Path

from fastapi.testclient import TestClient

from orchestrator.records.store import Store
from orchestrator.settings import Settings
from tests.api.conftest import SPEC


def test_a_living_service_says_so(service: TestClient) -> None:
    assert service.get("/healthz").json() == {"status": "ok", "version": version("retort")}


def test_a_service_without_an_orchestrator_is_ready_but_tells(service: TestClient) -> None:
    response = service.get("/readyz")
    assert (response.status_code, response.json()["database"]) == (200, "ok")
    assert response.json()["orchestrator"]["trouble"] == "it has never been seen"


def test_loops_that_beat_are_well_and_their_troubles_are_told(service: TestClient, store: Store) -> None:
    store.beat("jobs")
    assert service.get("/readyz").json()["orchestrator"]["trouble"] == ""
    store.beat("relay", "MLflow does not answer")
    assert service.get("/readyz").json()["orchestrator"]["trouble"] == "relay: MLflow does not answer"


def test_a_loop_that_fell_silent_is_told(service: TestClient, settings: Settings) -> None:
    an_hour_ago = Store(settings.database, clock=lambda: Store(settings.database).now() / 1000 - 3600)
    an_hour_ago.beat("jobs")
    assert service.get("/readyz").json()["orchestrator"]["trouble"].startswith("jobs: silent for 36")


def test_a_lost_database_makes_the_service_unready(service: TestClient, tmp_path: Path) -> None:
    for file in tmp_path.glob("retort.db*"):
        file.write_bytes(b"this is no database" * 1000)
    response = service.get("/readyz")
    assert response.status_code == 503
    assert response.json()["status"] == "unavailable"
    assert service.get("/healthz").status_code == 200


def test_what_mlflow_could_not_be_told_is_shown_and_sent_again(service: TestClient, store: Store) -> None:
    study = service.post("/v1/studies", json=SPEC).json()["id"]
    store.beat("relay")
    store.tell_mlflow_again(study, None)
    assert store.not_sent([row.id for row in store.outbox()], "the study: ValueError: no such column", last=True)
    trouble = service.get("/readyz").json()["orchestrator"]["trouble"]
    assert trouble.startswith(f"MLflow was not told 1 things of study {study} (the study: ValueError: no such column)")
    assert service.post("/v1/outbox:resend").json() == {"rows": 1}
    assert [act["action"] for act in service.get("/v1/audit?subject=outbox").json()["items"]] == ["outbox.resend"]
    assert service.get("/readyz").json()["orchestrator"]["trouble"] == ""
    assert len(store.outbox()) == 1
