"""Whatever is wrong with a request is answered as a problem document that names the field and says what would be right."""

import json
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from orchestrator.records.store import Store
from tests.api.conftest import SPEC


def changed(**fields: Any) -> dict[str, Any]:
    return {**SPEC, **fields}


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["status"]) == (status, status)
    assert document["type"].startswith("urn:retort:problem:")
    assert document["title"]
    assert document["detail"]
    return document


MALFORMED = [
    ({k: v for k, v in SPEC.items() if k != "student"}, "student", "Field required"),
    (changed(dataset="digit"), "dataset", "did you mean 'digits'?"),
    (changed(student={"detector": "gfl", "backbone": "resnet19"}), "student.backbone", "allowed: "),
    (changed(shedule={"epochs": 2}), "shedule", "did you mean 'schedule'?"),
    (changed(schedule={"epochs": 0}), "schedule.epochs", "greater than or equal to 1"),
    (changed(seeds=[0, 0]), "seeds", "the same seed twice"),
    (changed(arms=[{"id": "a", "distiller": "fitnett"}]), "arms.0.distiller", "did you mean 'fitnet'?"),
    (
        changed(arms=[{"id": "s"}, {"id": "ld", "distiller": "ld", "options": {"temperature": -1}}]),
        "arms.1.options.temperature",
        "greater than 0",
    ),
    (
        changed(arms=[{"id": "a", "distiller": "ld"}], teacher={"detector": "retinanet", "backbone": "resnet34"}),
        "arms.0.distiller",
        "LD needs",
    ),
    (changed(arms=[{"id": "a"}, {"id": "a"}]), "arms.1.id", "used twice"),
    (changed(search={"space": {"options.region": {"grid": ["whole", "nowhere"]}}}), "search.space", "nowhere"),
    (changed(search={"space": {"weight": {"choice": [1, 2]}}}), "search.trials", "how many combinations"),
    (
        changed(
            seeds=list(range(50)), search={"space": {"weight": {"grid": list(range(100))}, "schedule.epochs": {"grid": list(range(1, 10))}}}
        ),
        "search.space",
        "45050 trials; at most 10000",
    ),
    (changed(name="two\nlines"), "name", "on one line"),
    ([SPEC], "", "a study is a mapping"),
]


@pytest.mark.parametrize(("spec", "field", "said"), MALFORMED)
@pytest.mark.parametrize("path", ["/v1/studies", "/v1/studies:plan"])
def test_a_malformed_spec_is_refused_with_the_field_named(service: TestClient, path: str, spec: Any, field: str, said: str) -> None:
    errors = problem(service.post(path, json=spec), 422)["errors"]
    named = [e for e in errors if e["field"].startswith(field)]
    assert any(said in e["message"] for e in named), errors


def test_everything_wrong_is_named_at_once(service: TestClient) -> None:
    errors = problem(service.post("/v1/studies", json=changed(dataset="x", seeds=[])), 422)["errors"]
    assert {e["field"] for e in errors} == {"dataset", "seeds"}


@pytest.mark.parametrize(
    ("body", "content_type", "status", "field", "said"),
    [
        ('{"name": ', "application/json", 422, "", "not JSON: "),
        ("", "application/json", 422, "", "not JSON: "),
        ("name: [", "application/yaml", 422, "", "not readable YAML"),
        (json.dumps(SPEC), "text/plain", 415, "Content-Type", "application/json or application/yaml"),
        (json.dumps(SPEC), "", 415, "Content-Type", "application/json or application/yaml"),
        (b"\xff\xfe{}", "application/json", 400, "", "not UTF-8"),
        ("x" * 1_000_001, "application/json", 413, "", "at most 1,000,000 bytes"),
        ("a: &a [x]\nb: [*a, *a]", "application/yaml", 422, "", "anchors and aliases"),
        ("name: !!python/object/apply:os.system [id]", "application/yaml", 422, "", "the tag"),
        (json.dumps(changed(seeds=[10**30])), "application/json", 422, "seeds.0", "at most 64 bits"),
        (json.dumps(changed(name="a\0b")), "application/json", 422, "name", "NUL"),
        (json.dumps(changed(name="\ud800")), "application/json", 422, "name", "surrogate"),
        (json.dumps(changed(schedule={"lr": float("nan")})), "application/json", 422, "schedule.lr", "finite"),
        ("[" * 200_000, "application/json", 422, "", "levels deep"),
    ],
)
def test_a_body_that_is_no_study_is_refused(
    service: TestClient, body: str | bytes, content_type: str, status: int, field: str, said: str
) -> None:
    response = service.post("/v1/studies", content=body, headers={"Content-Type": content_type} if content_type else {})
    error = problem(response, status)["errors"][0]
    assert error["field"] == field
    assert said in error["message"]


def test_a_body_that_grows_too_large_is_cut_off(service: TestClient) -> None:
    response = service.post("/v1/studies", content=(b" " * 10_000 for _ in range(101)), headers={"Content-Type": "application/json"})
    problem(response, 413)


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "schlüssel"])
def test_a_bad_idempotency_key_is_refused(service: TestClient, key: str) -> None:
    response = service.post("/v1/studies", json=SPEC, headers={"Idempotency-Key": key.encode()})
    assert problem(response, 422)["errors"][0]["field"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/v1/studies?cursor=last", 422, "cursor"),
        ("/v1/studies?cursor=9223372036854775808", 422, "cursor"),
        ("/v1/studies?limit=0", 422, "limit"),
        ("/v1/studies/one", 422, "study_id"),
        ("/v1/studies/9223372036854775808", 422, "study_id"),
        ("/v1/studies/1/table?format=pdf", 422, "format"),
    ],
)
def test_a_bad_parameter_is_named(service: TestClient, path: str, status: int, field: str) -> None:
    assert [e["field"] for e in problem(service.get(path), status)["errors"]] == [field]


@pytest.mark.parametrize("path", ["", "/trials", "/table", "/events"])
def test_an_unknown_study_is_not_found(service: TestClient, path: str) -> None:
    assert problem(service.get(f"/v1/studies/7{path}"), 404)["detail"] == "there is no study '7'"


@pytest.mark.parametrize("action", ["cancel", "resume"])
def test_an_unknown_study_cannot_be_moved(service: TestClient, action: str) -> None:
    problem(service.post(f"/v1/studies/7:{action}"), 404)


def test_a_database_that_fails_is_a_problem_to_try_again_after(service: TestClient, store: Store) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE study RENAME TO gone")
    response = service.get("/v1/studies")
    assert problem(response, 503)["detail"] == "the database does not answer; try again"
    assert response.headers["Retry-After"] == "1"


def test_an_unknown_path_and_a_wrong_method_are_problems_too(service: TestClient) -> None:
    assert problem(service.get("/v1/nothing"), 404)["detail"] == "nothing is at /v1/nothing"
    assert service.delete("/v1/studies").headers["allow"]
    problem(service.delete("/v1/studies"), 405)
