"""Webhooks over REST and the command: made, shown with what became of their messages, removed; refused where nobody should be asked."""

import base64
from typing import Any

import pytest
from fastapi.testclient import TestClient

from orchestrator.records.schema import Event
from orchestrator.records.store import Store
from orchestrator.webhooks.store import Webhooks
from tests.api.conftest import SPEC
from tests.api.test_cli import Retort, retort

__all__ = ["retort"]  # the fixture
URL = "https://receiver.example/retort"


def finish(store: Store, study: int) -> None:
    """As if the study had just finished."""
    with Webhooks(store)._writes.begin() as session:
        session.add(Event(study_id=study, kind="study", data={"state": "finished", "reason": None}, time=store.now()))


def test_a_webhook_is_made_shown_with_its_history_and_removed(service: TestClient, store: Store) -> None:
    answer = service.post("/v1/webhooks", json={"url": URL, "events": ["study.finished"]})
    assert (answer.status_code, answer.headers["Location"]) == (201, "/v1/webhooks/1")
    made = answer.json()
    assert len(base64.b64decode(made["secret"].removeprefix("whsec_"))) == 32
    service.post("/v1/studies", json=SPEC)
    finish(store, 1)
    webhooks = Webhooks(store)
    webhooks.collect()
    webhooks.tried(webhooks.deliveries(1)[0].id, 500, "it answered 500")
    shown = service.get("/v1/webhooks/1").json()
    assert "secret" not in shown
    [delivery] = shown["deliveries"]
    assert (delivery["event"], delivery["state"], delivery["content"]["data"]["study"]) == ("study.finished", "waiting", 1)
    assert [(each["status"], each["error"]) for each in delivery["tries"]] == [(500, "it answered 500")]
    assert delivery["next"] > delivery["tries"][0]["time"]
    assert service.delete("/v1/webhooks/1").status_code == 204
    assert service.get("/v1/webhooks").json() == {"items": []}
    assert service.get("/v1/webhooks/1").status_code == 404
    assert [act["action"] for act in service.get("/v1/audit").json()["items"]] == ["webhook.remove", "study.submit", "webhook.add"]


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"url": "http://127.0.0.1:9/"}, "url", "127.0.0.1 is not a public address; networks are allowed by RETORT_WEBHOOK_NETWORKS"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "url", "is not a public address"),
        ({"url": "file:///etc/passwd"}, "url", "an address of the form https://"),
        ({"url": URL, "events": ["study.eaten"]}, "events.0", "study.finished"),
        ({"url": URL, "events": []}, "events", "at least 1"),
        ({"url": URL, "secret": "mine"}, "secret", ""),
        ({}, "url", "required"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused_by_field(service: TestClient, body: Any, field: str, said: str) -> None:
    answer = service.post("/v1/webhooks", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert said in answer.json()["errors"][0]["message"]


def test_the_command_adds_shows_and_removes(retort: Retort, store: Store) -> None:
    added = retort("webhook", "add", URL, "--on", "finished", "--on", "failed")
    assert added.stdout.startswith("whsec_")
    assert "not shown again" in added.stderr
    assert "(failed, finished; added by " in retort("webhook", "list").stdout
    retort("submit", "study.yaml")
    finish(store, 1)
    webhooks = Webhooks(store)
    webhooks.collect()
    webhooks.tried(webhooks.deliveries(1)[0].id, None, "ConnectError: nobody there")
    line = retort("webhook", "show", "1").stdout.splitlines()[1]
    assert "study.finished, study 1: waiting (1 try, next try " in line
    assert line.endswith("): ConnectError: nobody there")
    assert retort("webhook", "remove", "1").stdout == "webhook 1 is removed\n"
    assert retort("webhook", "show", "1").stderr == "there is no webhook '1'\n"
