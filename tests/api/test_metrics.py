"""Figures for Prometheus, read with Prometheus' own parser."""

import threading
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from orchestrator import loops
from orchestrator.records.store import Store
from tests.api.conftest import SPEC, Driver


def figures(service: TestClient) -> dict[tuple[str, ...], float]:
    """Every figure by its name and the values of its labels."""
    answer = service.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_an_empty_retort_has_figures(service: TestClient) -> None:
    found = figures(service)
    assert found["retort_studies", "queued"] == found["retort_trials", "running"] == 0
    assert found["retort_queue_age_seconds",] == found["retort_outbox_rows",] == found["retort_images_per_second",] == 0


def test_what_waits_what_runs_and_how_fast_is_told(service: TestClient, store: Store) -> None:
    first, _ = (service.post("/v1/studies", json=SPEC | {"name": name}).json()["id"] for name in ("runs", "waits"))
    driver = Driver(store, first)
    driver.start()
    driver.begin("student/seed-0")
    driver.store.record_epoch(
        first, 1, "student/seed-0", 1, 2, {"AP": 1.0, "images_per_second": 12.5}, fence=driver.fences["student/seed-0"]
    )
    found = figures(service)
    assert (found["retort_studies", "running"], found["retort_studies", "queued"]) == (1, 1)
    assert {state: found["retort_trials", state] for state in ("running", "ready", "waiting")} == {"running": 1, "ready": 3, "waiting": 2}
    assert found["retort_images_per_second",] == 12.5
    assert 0 < found["retort_queue_age_seconds",] < 60
    assert found["retort_outbox_rows",] > 0
    assert found["retort_leases",] == 1
    assert 0 <= found["retort_lease_age_seconds",] < 60


class Failing:
    """A loop that fails twice and then tells to stop."""

    name, interval, listens = "failing", 0.001, False

    def __init__(self, stop: Callable[[], None]) -> None:
        self.rounds, self.stop = 0, stop

    def step(self) -> None:
        self.rounds += 1
        if self.rounds == 3:
            self.stop()
        raise ConnectionError(f"round {self.rounds}")


def test_loops_tell_their_troubles_and_how_long_they_take(service: TestClient, store: Store) -> None:
    stop = threading.Event()
    loops.run(Failing(stop.set), store, stop)
    found = figures(service)
    assert (found["retort_loop_troubles", "failing"], found["retort_loop_in_trouble", "failing"]) == (3, 1)
    assert found["retort_loop_round_seconds", "failing"] == pytest.approx(0, abs=5)
    assert found["retort_loop_age_seconds", "failing"] < 60
