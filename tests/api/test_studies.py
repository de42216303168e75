"""Submitting, listing, following, cancelling and resuming studies over REST."""

import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi.testclient import TestClient

from orchestrator import operators
from orchestrator.records.store import Store
from tests.api.conftest import SPEC, Driver, LiveService, bearing


def submit(service: TestClient, key: str | None = None, **fields: Any) -> httpx.Response:
    return service.post("/v1/studies", json={**SPEC, **fields}, headers={"Idempotency-Key": key} if key else {})


def test_a_submitted_study_is_queued_and_found_at_its_location(service: TestClient) -> None:
    response = submit(service)
    assert response.status_code == 202
    study = response.json()
    assert (study["state"], study["trials"], study["at_rest"]) == ("queued", {"ready": 2, "waiting": 1}, False)
    assert service.get(response.headers["Location"]).json() == study


def test_yaml_and_json_of_the_same_study_store_the_same_spec(service: TestClient) -> None:
    response = service.post("/v1/studies", content=yaml.safe_dump(SPEC), headers={"Content-Type": "application/yaml; charset=utf-8"})
    assert response.json()["spec"] == submit(service).json()["spec"]


def test_the_same_key_and_body_make_one_study(service: TestClient) -> None:
    first, second = submit(service, "monday"), submit(service, "monday")
    assert first.json()["id"] == second.json()["id"]
    assert first.headers["Location"] == second.headers["Location"]
    assert len(service.get("/v1/studies").json()["items"]) == 1
    assert submit(service, "tuesday").json()["id"] == 2


def test_the_same_key_with_another_body_is_a_conflict(service: TestClient) -> None:
    submit(service, "monday")
    response = submit(service, "monday", seeds=[1])
    assert response.status_code == 409
    assert response.json()["type"] == "urn:retort:problem:idempotency-key-reused"
    assert response.json()["errors"][0]["field"] == "Idempotency-Key"


def test_one_key_sent_by_eight_at_once_makes_one_study(live: LiveService) -> None:
    ids: list[int] = []

    def send() -> None:
        ids.append(
            httpx.post(f"{live.url}/v1/studies", json=SPEC, headers={"Idempotency-Key": "rush"} | bearing(live.token), timeout=30).json()[
                "id"
            ]
        )

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids == [1] * 8


def test_pages_lead_through_all_studies_newest_first(service: TestClient) -> None:
    for number in range(5):
        submit(service, name=f"study {number}")
    seen, cursor = [], None
    while True:
        page = service.get("/v1/studies", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [study["id"] for study in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [5, 4, 3, 2, 1]


def test_trials_come_in_pages_or_by_name(service: TestClient) -> None:
    submit(service)
    whole = service.get("/v1/studies/1/trials").json()
    assert whole["next"] is None
    names = [trial["name"] for trial in whole["items"]]
    first = service.get("/v1/studies/1/trials", params={"limit": 2}).json()
    rest = service.get("/v1/studies/1/trials", params={"limit": 200, "cursor": first["next"]}).json()
    assert [trial["name"] for trial in (*first["items"], *rest["items"])] == names
    assert (len(first["items"]), rest["next"]) == (2, None)
    some = service.get("/v1/studies/1/trials", params={"name": [names[2], names[0]]}).json()
    assert [trial["name"] for trial in some["items"]] == [names[0], names[2]]
    assert service.get("/v1/studies/1/trials", params={"limit": 1001}).status_code == 422


def test_trials_come_with_their_teacher_first_and_their_results(service: TestClient, store: Store) -> None:
    submit(service)
    Driver(store, 1).train_all()
    trials = service.get("/v1/studies/1/trials").json()["items"]
    assert [trial["role"] for trial in trials] == ["teacher", "baseline", "distilled"]
    assert trials[2]["teacher"] == trials[0]["name"]
    assert [trial["metrics"]["AP"] for trial in trials] == [40.0, 41.0, 42.0]
    assert {(trial["state"], trial["epoch"], trial["epochs"]) for trial in trials} == {("finished", 2, 2)}


def test_a_failed_trial_says_why(service: TestClient, store: Store) -> None:
    submit(service)
    driver = Driver(store, 1)
    driver.start()
    driver.begin("student/seed-0")
    store.fail_trial(1, driver.attempt, "student/seed-0", "nan", "the loss became NaN at step 3", driver.fences["student/seed-0"])
    trial = service.get("/v1/studies/1/trials").json()["items"][1]
    assert (trial["state"], trial["failure"], trial["reason"]) == ("failed", "nan", "the loss became NaN at step 3")


def test_links_lead_to_mlflow_once_the_run_is_known(service: TestClient, store: Store) -> None:
    submit(service)
    assert service.get("/v1/studies/1").json()["mlflow"] is None
    store.set_study_run(1, "5", "abc")
    assert service.get("/v1/studies/1").json()["mlflow"] == "http://mlflow.example/#/experiments/5/runs/abc?workflowType=machine_learning"


def test_a_queued_study_is_cancelled_and_resumed(service: TestClient) -> None:
    submit(service)
    cancelled = service.post("/v1/studies/1:cancel")
    assert (cancelled.status_code, cancelled.json()["state"], cancelled.json()["trials"]) == (202, "cancelled", {"cancelled": 3})
    resumed = service.post("/v1/studies/1:resume").json()
    assert (resumed["state"], resumed["trials"]) == ("queued", {"waiting": 1, "ready": 2})


def test_a_running_study_is_asked_to_stop(service: TestClient, store: Store) -> None:
    submit(service)
    driver = Driver(store, 1)
    driver.start()
    assert service.post("/v1/studies/1:cancel").json()["state"] == "cancelling"
    store.stopped(1, driver.attempt)
    assert service.get("/v1/studies/1").json()["state"] == "cancelled"


def test_what_the_state_does_not_allow_is_a_conflict_that_says_so(service: TestClient, store: Store) -> None:
    submit(service)
    response = service.post("/v1/studies/1:resume")
    assert (response.status_code, response.json()["type"]) == (409, "urn:retort:problem:wrong-state")
    assert response.json()["detail"].startswith("cannot resume a study that is queued: ")
    Driver(store, 1).train_all()
    assert service.post("/v1/studies/1:cancel").json()["detail"].startswith("cannot cancel a study that is finished: ")


def test_a_plan_lists_every_trial_and_stores_nothing(service: TestClient) -> None:
    plan = service.post("/v1/studies:plan", json={**SPEC, "seeds": [0, 1]}).json()
    assert [trial["role"] for trial in plan["trials"]] == ["teacher", *["baseline"] * 2, *["distilled"] * 2]
    assert (plan["to_run"], plan["reused"], plan["unknown"]) == (5, 0, 5)
    assert service.get("/v1/studies").json()["items"] == []


def test_a_plan_knows_times_from_what_was_trained(service: TestClient, store: Store) -> None:
    submit(service)
    Driver(store, 1).train_all()
    plan = service.post("/v1/studies:plan", json={**SPEC, "seeds": [7]}).json()
    assert [trial["seconds"] for trial in plan["trials"]] == [20.0, 20.0, 20.0]
    assert plan["device_seconds"] == 60.0


def test_a_plan_of_a_table_at_paper_scale_tells_device_hours_and_where_they_are_from(service: TestClient) -> None:
    plan = service.post("/v1/studies:plan", json={"table": "frs2021/table-3", "scale": "paper"}).json()
    assert (plan["to_train"], plan["to_evaluate"], plan["measured"], plan["estimated"], plan["unknown"]) == (4, 1, 0, 5, 0)
    assert plan["gpu_hours"]["V100"] == pytest.approx(sum(trial["gpu_hours"]["V100"] for trial in plan["trials"]))
    assert [(trial["evaluates"], trial["basis"]) for trial in plan["trials"]] == [(True, "estimated"), *[(False, "estimated")] * 4]
    assert "12 FLOP per byte" in plan["efficiency"]


def test_a_study_for_a_gpu_whose_operators_are_missing_is_refused_before_it_is_queued(
    service: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RETORT_STACK", "a stack")
    monkeypatch.setattr(operators, "GPU", tmp_path)
    monkeypatch.setattr(operators, "built_for_cuda", lambda: False)
    refused = submit(service, resources={"gpus": 1})
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert error["field"] == "resources.gpus"
    assert error["message"].startswith("trials on a GPU need mmcv's CUDA operators")
    assert service.get("/v1/studies").json()["items"] == []
    plan = service.post("/v1/studies:plan", json={**SPEC, "resources": {"gpus": 1}})
    assert plan.json()["warnings"][0] == error["message"]  # what it would take can still be asked
    assert submit(service).status_code == 202
