"""The event stream: everything once and in order, from any event on, across a restart of the service, to the study's rest."""

import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.client import Client, StreamedEvent, Unreachable
from orchestrator.records.store import Store
from tests.api.conftest import SPEC, Driver, LiveService


def all_events(service: TestClient, after: int | None = None, query: str = "") -> list[tuple[int, str, str]]:
    """(id, kind, data) of a stream that ends by itself."""
    response = service.get(f"/v1/studies/1/events{query}", headers={} if after is None else {"Last-Event-ID": str(after)})
    assert response.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in response.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            found.append((int(fields["id"]), fields["event"], fields["data"]))
    return found


@pytest.fixture
def trained(service: TestClient, store: Store) -> TestClient:
    service.post("/v1/studies", json=SPEC)
    Driver(store, 1).train_all()
    return service


def test_a_study_at_rest_streams_its_whole_life_and_ends(trained: TestClient) -> None:
    events = all_events(trained)
    ids = [event[0] for event in events]
    assert ids == sorted(set(ids))
    assert events[0][1] == "study"
    assert '"queued"' in events[0][2]
    assert '"finished"' in events[-1][2]
    assert [event[1] for event in events].count("epoch") == 6


def test_the_stream_goes_on_after_the_last_event_seen(trained: TestClient) -> None:
    events = all_events(trained)
    for seen in (0, 3, len(events) - 1):
        assert all_events(trained, events[seen][0]) == events[seen + 1 :]
    assert all_events(trained, events[-1][0]) == []


@pytest.mark.parametrize("last", ["x", "-1", "9223372036854775808", "1.5"])
def test_a_bad_last_event_id_is_refused(trained: TestClient, last: str) -> None:
    response = trained.get("/v1/studies/1/events", headers={"Last-Event-ID": last})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "Last-Event-ID"


def test_events_arrive_while_the_study_runs(live: LiveService, store: Store) -> None:
    client = Client(live.url, live.token)
    client.submit(SPEC)
    driver = Driver(store, 1)
    driver.start()
    driver.begin("student/seed-0")
    stream = client.events(1)
    seen: list[StreamedEvent] = []

    def until(kind: str) -> Any:
        for event in stream:
            seen.append(event)
            if event.kind == kind:
                return event.data
        raise AssertionError("the stream ended")

    driver.epoch("student/seed-0", 1, 20.0)
    assert until("epoch")["metrics"]["AP"] == 20.0
    driver.epoch("student/seed-0", 2, 30.0)
    assert until("epoch")["metrics"]["AP"] == 30.0
    ids = [event.id for event in seen]
    assert ids == sorted(set(ids))


def test_a_broken_stream_is_picked_up_where_it_ended(live: LiveService, store: Store) -> None:
    client = Client(live.url, live.token)
    client.submit(SPEC)
    driver = Driver(store, 1)
    driver.start()
    seen: list[StreamedEvent] = []
    started = threading.Event()

    def read() -> None:
        try:
            for event in client.events(1):
                seen.append(event)
                started.set()
        except Unreachable:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    started.wait()
    live.stop()
    reader.join()
    for rank, name in enumerate(driver.planned):
        driver.train(name, 40.0 + rank)
    store.conclude(1, driver.attempt)
    live.start()
    seen += client.events(1, seen[-1].id)
    assert [event.id for event in seen] == [event.id for event in store.events(1)]
