"""What other sites make a browser send is refused, whoever's token or cookie comes with it."""

from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from api.access.settings import AccessSettings
from api.app import create_app
from orchestrator.settings import Settings
from tests.api.conftest import ADDRESS, SPEC, bearing, operators_token

OWN = ADDRESS.removeprefix("http://")


def refused(response: httpx.Response, status: int) -> str:
    """The field that a problem document names."""
    assert response.headers["content-type"] == "application/problem+json"
    assert response.status_code == status
    return str(response.json()["errors"][0]["field"])


def test_a_page_of_another_site_cannot_cancel_a_study(service: TestClient) -> None:
    service.post("/v1/studies", json=SPEC)
    evil = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
    assert refused(service.post("/v1/studies/1:cancel", headers=evil), 403) == "Origin"
    assert refused(service.post("/v1/studies/1:cancel", headers=evil, content="{}"), 403) == "Origin"
    assert refused(service.post("/v1/studies/1:cancel", headers={"Content-Type": "text/plain"}), 415) == "Content-Type"
    assert service.get("/v1/studies/1").json()["state"] == "queued"


def test_a_name_that_leads_here_but_is_not_ours_is_refused(service: TestClient) -> None:
    answer = service.get("/v1/studies", headers={"Host": "evil.example"})
    assert refused(answer, 403) == "Host"
    assert "RETORT_ALLOWED_HOSTS" in answer.json()["detail"]
    for path in ("/healthz", "/readyz", "/login", "/docs", "/openapi.json", "/nothing"):
        assert refused(service.get(path, headers={"Host": "evil.example:8080"}), 403) == "Host"


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "127.0.0.1", "localhost:1", "LOCALHOST:8080", "[::1]:8080"])
def test_loopback_is_known_by_its_names(service: TestClient, host: str) -> None:
    assert service.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["", "127.0.0.1.evil.example", "evil.example#127.0.0.1", "evil@localhost.example", "[::1", "127.0.0.2"])
def test_what_only_looks_like_loopback_is_refused(service: TestClient, host: str) -> None:
    assert refused(service.get("/healthz", headers={"Host": host}), 403) == "Host"


@pytest.mark.parametrize(
    "origin", ["null", "", "http://127.0.0.1:5000", "http://localhost:8080", "http://127.0.0.1:8080.evil.example", OWN, "file://"]
)
def test_only_this_very_address_may_change_something(service: TestClient, origin: str) -> None:
    assert refused(service.post("/v1/studies:plan", json=SPEC, headers={"Origin": origin}), 403) == "Origin"
    assert service.get("/v1/studies", headers={"Origin": origin}).status_code == 200


def test_its_own_pages_and_programs_that_name_no_origin_may(service: TestClient) -> None:
    assert service.post("/v1/studies:plan", json=SPEC, headers={"Origin": ADDRESS}).status_code == 200
    assert service.post("/v1/studies:plan", json=SPEC).status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/plain; a=application/json", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"]
)
@pytest.mark.parametrize("path", ["/v1/studies", "/v1/studies:plan", "/v1/plans", "/v1/schedules", "/v1/tokens", "/v1/studies/1:resume"])
def test_what_a_form_can_send_changes_nothing(service: TestClient, path: str, kind: str) -> None:
    headers = {"Content-Type": kind, "Origin": ADDRESS}
    assert refused(service.post(path, content="{}", headers=headers), 415) == "Content-Type"


def test_configured_names_are_known_and_no_others(settings: Settings) -> None:
    named = AccessSettings(settings.home / "token", hosts=("retort.example", "*.lab.example"))
    with TestClient(create_app(settings, named), base_url=ADDRESS) as client:
        known = {
            host: client.get("/healthz", headers={"Host": host}).status_code
            for host in ("retort.example", "a.b.lab.example:443", "localhost")
        }
        assert set(known.values()) == {200}
        foreign = ("lab.example", "evillab.example", "retort.example.evil.example", "a.retort.example")
        assert {client.get("/healthz", headers={"Host": host}).status_code for host in foreign} == {403}
        headers = bearing(operators_token(settings)) | {"Host": "retort.example", "Origin": "https://retort.example"}
        assert client.post("/v1/studies:plan", json=SPEC, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/v1/studies", "/nothing", "/login", "/docs"])
def test_every_answer_says_what_a_page_may_do_with_it(service: TestClient, path: str) -> None:
    headers: Any = service.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
