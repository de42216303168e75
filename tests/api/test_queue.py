"""The queue over REST: priorities, pauses, quotas, and who waits for what."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.command.queue import trace
from orchestrator.records.schema import Place
from orchestrator.records.store import Store
from studies.submission import as_submission
from tests.api.conftest import SPEC, As
from tests.orchestrator.conftest import ALONE, Driven, a_study


@pytest.fixture
def study(store: Store, service: TestClient) -> int:
    return store.create_study(as_submission(a_study()), owner="ada")[0].id


def test_a_study_is_submitted_with_a_priority_and_gets_another(service: TestClient) -> None:
    made = service.post("/v1/studies?priority=3", json=SPEC).json()
    assert (made["priority"], made["paused"]) == (3, False)
    assert service.post(f"/v1/studies/{made['id']}:prioritize?priority=-2").json()["priority"] == -2
    assert service.post(f"/v1/studies/{made['id']}:prioritize?priority=101").status_code == 422


def test_what_is_very_urgent_is_an_administrators_to_say(service: TestClient, as_: As) -> None:
    ada = as_("submit", "ada")
    assert service.post("/v1/studies?priority=10", json=SPEC, headers=ada).status_code == 202
    refused = service.post("/v1/studies?priority=11", json=SPEC, headers=ada)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:retort:problem:too-urgent")


def test_only_the_owner_and_an_administrator_pause_a_study(service: TestClient, as_: As, study: int) -> None:
    assert service.post(f"/v1/studies/{study}:pause", headers=as_("submit", "bob")).status_code == 403
    assert service.post(f"/v1/studies/{study}:pause", headers=as_("submit", "ada")).json()["paused"] is True
    assert service.post(f"/v1/studies/{study}:unpause").json()["paused"] is False
    assert service.post("/v1/studies/99:pause").status_code == 404


def test_a_study_at_its_end_is_not_paused(service: TestClient, store: Store, study: int) -> None:
    service.post(f"/v1/studies/{study}:cancel")
    refused = service.post(f"/v1/studies/{study}:pause")
    assert (refused.status_code, refused.json()["detail"]) == (409, "cannot pause a study that is cancelled: it wants no devices")
    assert not store.study(study).paused


def test_the_queue_says_who_waits_for_what(service: TestClient, store: Store, study: int) -> None:
    assert service.get("/v1/queue").json() == {"items": []}
    store.set_places([Place(study_id=study, number=1, reason="waits for devices", expected=120_000)])
    (place,) = service.get("/v1/queue").json()["items"]
    assert (place["place"], place["study"], place["owner"], place["ready"], place["running"]) == (1, study, "ada", 2, 0)
    assert (place["reason"], place["expected"]) == ("waits for devices", "1970-01-01T00:02:00Z")


def test_a_quota_is_set_shown_and_checked_by_field(service: TestClient) -> None:
    made = service.put("/v1/owners/ada", json={"devices": 4, "hours": 100}).json()
    assert (made["name"], made["devices"], made["hours"], made["weight"]) == ("ada", 4.0, 100.0, 1.0)
    assert service.get("/v1/owners").json()["items"] == [made]
    refused = service.put("/v1/owners/ada", json={"devices": -1})
    assert refused.status_code == 422
    assert [each["field"] for each in refused.json()["errors"]] == ["devices"]


def test_the_timeline_has_a_stay_for_each_time_on_devices(service: TestClient, store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    driven.begin(ALONE)
    store.preempt_trial(driven.id, 1, ALONE, driven.fences[ALONE])
    driven.begin(ALONE)
    items = service.get(f"/v1/studies/{driven.id}/timeline").json()["items"]
    assert [(stay["trial"], stay["outcome"], stay["ended"] is None) for stay in items] == [
        (ALONE, "ready", False),
        (ALONE, "running", True),
    ]


def test_a_lane_of_the_trace_holds_one_trial_at_a_time() -> None:
    def stay(trial: str, began: int, ended: int) -> dict[str, str]:
        return {
            "trial": trial,
            "began": f"2026-01-01T00:00:{began:02}+00:00",
            "ended": f"2026-01-01T00:00:{ended:02}+00:00",
            "outcome": "finished",
        }

    items = [stay("a", 0, 10), stay("b", 5, 20), stay("c", 10, 15)]
    named, *events = trace([{"study": 7, "name": "seventh", "items": items}])["traceEvents"]
    assert (named["pid"], named["args"]) == (7, {"name": "study 7: seventh"})
    assert [(event["name"], event["tid"], event["dur"]) for event in events] == [("a", 1, 10e6), ("b", 2, 15e6), ("c", 1, 5e6)]


def test_the_page_of_the_queue_tells_why_each_study_waits_in_the_brokers_order(service: TestClient, store: Store, study: int) -> None:
    later = store.create_study(as_submission(a_study(name="urgent")), owner="bob", priority=3)[0].id
    new = store.create_study(as_submission(a_study(name="just came")))[0].id
    reason = "needs 4 GPUs on a node; the largest has 2"
    store.set_places(
        [
            Place(study_id=later, number=1, reason=reason, expected=None),
            Place(study_id=study, number=2, reason="waits for devices", expected=60_000),
        ]
    )
    page = service.get("/queue").text
    told = [f"{later}: urgent", reason, f"{study}: ", "waits for devices", "1970-01-01", f"{new}: just came", "is about to be looked at"]
    assert [page.index(each) for each in told] == sorted(page.index(each) for each in told)
    assert f"place 1 in the queue</a>: {reason}" in service.get(f"/studies/{later}").text
    assert [service.get(f"/v1/studies/{id}").json()["waits"] for id in (later, new)] == [reason, None]
