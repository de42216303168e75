"""How a browser becomes known and what its cookie is worth."""

import re

import httpx
import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from tests.api.conftest import ADDRESS, SPEC, bearing, operators_token

COOKIE = "retort_session_8080"


@pytest.fixture
def browser(service: TestClient) -> TestClient:
    """A client of the same service without a token."""
    return TestClient(service.app, base_url=ADDRESS, headers={"Accept": "text/html"})


def link(service: TestClient, **headers: str) -> str:
    made = service.post("/v1/links", headers=headers)
    assert made.status_code == 201
    return str(made.json()["path"])


def test_a_link_opens_the_pages_once(service: TestClient, browser: TestClient) -> None:
    path = link(service)
    opened = browser.get(path)
    assert opened.status_code == 200
    assert 'content="0; url=/studies"' in opened.text
    cookie = opened.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=1209600"):
        assert part in cookie
    assert "Secure" not in cookie  # on loopback, without TLS
    assert browser.get("/v1/studies").status_code == 200
    again = TestClient(service.app, base_url=ADDRESS).get(path)
    assert again.status_code == 401
    assert "used already" in again.text
    assert "set-cookie" not in again.headers


def test_a_link_that_nobody_made_or_that_is_too_old_opens_nothing(service: TestClient, browser: TestClient, store: Store) -> None:
    assert browser.get("/login?link=guessed").status_code == 401
    path = link(service)
    with store.engine.execution_options(retort_writes=True).begin() as connection:
        connection.exec_driver_sql(f"UPDATE pass SET expires = {store.now()}")
    assert browser.get(path).status_code == 401
    assert browser.get("/v1/studies").status_code == 401


def test_a_page_asks_for_a_token_and_shows_itself_then(service: TestClient, browser: TestClient, settings: Settings) -> None:
    asked = browser.get("/docs?x=1")
    assert asked.status_code == 401
    assert asked.headers["content-type"].startswith("text/html")
    assert 'name=next value="/docs?x=1"' in asked.text
    form = {"token": operators_token(settings), "next": "/docs?x=1"}
    entered = browser.post("/login", data=form, headers={"Origin": ADDRESS})
    assert 'content="0; url=/docs?x=1"' in entered.text
    assert browser.get("/docs").status_code == 200


def test_a_wrong_token_gives_no_cookie(browser: TestClient) -> None:
    answer = browser.post("/login", data={"token": "retort_x", "next": '"><b>'}, headers={"Origin": ADDRESS})
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    assert "<b>" not in answer.text


def test_the_form_of_another_site_is_refused(browser: TestClient, settings: Settings) -> None:
    form = {"token": operators_token(settings)}
    for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert browser.post("/login", data=form, headers=headers).status_code in (403, 415)


@pytest.mark.parametrize(
    "elsewhere", ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/\t/evil.example", ""]
)
def test_nobody_is_led_elsewhere(browser: TestClient, settings: Settings, elsewhere: str) -> None:
    form = {"token": operators_token(settings), "next": elsewhere}
    entered = browser.post("/login", data=form, headers={"Origin": ADDRESS})
    assert re.findall(r"url=([^\"]*)", entered.text) == ["/studies"]


def change(browser: TestClient, **headers: str) -> httpx.Response:
    return browser.post("/v1/studies/1:cancel", headers=headers)


def test_a_cookie_changes_something_for_this_services_own_pages_alone(service: TestClient, browser: TestClient) -> None:
    service.post("/v1/studies", json=SPEC)
    browser.get(link(service))
    assert change(browser).status_code == 403  # every browser says where a change comes from
    assert change(browser, Origin="http://127.0.0.1:5000").status_code == 403
    assert change(browser, Origin=ADDRESS).status_code == 202


def test_a_session_has_the_scope_of_its_token_and_ends_with_it(service: TestClient, browser: TestClient) -> None:
    made = service.post("/v1/tokens", json={"name": "looks", "scope": "read"}).json()
    browser.get(link(service, **bearing(made["token"])))
    assert browser.get("/v1/studies").status_code == 200
    assert browser.get("/v1/tokens").status_code == 403
    service.delete(f"/v1/tokens/{made['id']}")
    assert browser.get("/v1/studies").status_code == 401


def test_a_session_ends_with_its_time_or_when_one_logs_out(service: TestClient, browser: TestClient, store: Store) -> None:
    browser.get(link(service))
    assert browser.post("/logout", headers={"Origin": ADDRESS}).status_code == 200
    assert browser.get("/v1/studies").status_code == 401
    browser.get(link(service))
    assert browser.get("/v1/studies").status_code == 200
    with store.engine.execution_options(retort_writes=True).begin() as connection:
        connection.exec_driver_sql(f"UPDATE pass SET expires = {store.now()}")
    assert browser.get("/v1/studies").status_code == 401


def test_sessions_outlive_the_service_and_expired_ones_are_forgotten(
    service: TestClient, browser: TestClient, settings: Settings, store: Store
) -> None:
    browser.get(link(service))
    with TestClient(create_app(settings), base_url=ADDRESS, cookies={COOKIE: browser.cookies[COOKIE]}) as again:
        assert again.get("/v1/studies").status_code == 200
        with store.engine.execution_options(retort_writes=True).begin() as connection:
            connection.exec_driver_sql(f"UPDATE pass SET expires = {store.now()}")
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM pass").scalar() == 0


def test_over_tls_the_cookie_is_never_sent_without(service: TestClient) -> None:
    opened = TestClient(service.app, base_url="https://127.0.0.1").get(link(service))
    assert opened.headers["set-cookie"].startswith("retort_session_https=")
    assert "Secure" in opened.headers["set-cookie"]
