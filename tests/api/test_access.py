"""Who may do what: tokens and their scopes, owners, limits, last uses, and who did what."""

import stat
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from api.access.callers import stated_scopes
from api.access.operator import operator_token
from api.access.settings import AccessSettings, access_settings
from api.app import create_app
from orchestrator.access.schema import Scope
from orchestrator.access.tokens import Tokens
from orchestrator.records.store import Store
from orchestrator.schedules.loop import Cron
from orchestrator.settings import Settings
from studies.submission import read_submission
from tests.api.conftest import ADDRESS, SPEC, As, bearing, operators_token
from tests.api.test_schedules import SATURDAYS, make_due

OPEN = {"GET /healthz", "GET /readyz", "GET /login", "POST /login", "POST /logout", "GET /static/{name:path}", "GET /favicon.ico"}


def test_every_route_states_its_scope_and_few_are_open(settings: Settings) -> None:
    scopes = stated_scopes(create_app(settings))
    assert {name for name, scope in scopes.items() if scope is None} == OPEN
    assert len(scopes) > 30
    changing = {name for name, scope in scopes.items() if scope == Scope.READ and not name.startswith("GET ")}
    assert changing == {"POST /v1/studies:plan", "POST /v1/plans", "POST /v1/links", "POST /submit/check", "POST /submit/complete"}


def asked(name: str) -> tuple[str, str]:
    """Method and path of a route, with something in the place of what varies."""
    method, path = name.split(" ")
    return method, path.replace("{", "").replace("}", "")


def refusal(answer: httpx.Response) -> str:
    """The type of the problem that an answer is; pages say it in words."""
    if answer.headers["content-type"].startswith("text/html"):
        assert "<main" in answer.text
        return {401: "urn:retort:problem:unauthorized", 403: "urn:retort:problem:insufficient-scope"}[answer.status_code]
    told: str = answer.json()["type"]
    return told


def test_no_route_but_the_open_ones_answers_somebody_unknown(settings: Settings) -> None:
    app = create_app(settings)
    with TestClient(app, base_url=ADDRESS) as client:
        for name, scope in stated_scopes(app).items():
            for headers in ({}, bearing("retort_wrong"), {"Authorization": "Basic YTpi"}, {"Cookie": "retort_session_8080=wrong"}):
                answer = client.request(*asked(name), headers=headers)
                if scope is not None:
                    assert (answer.status_code, refusal(answer)) == (401, "urn:retort:problem:unauthorized"), name
                    assert answer.headers.get("www-authenticate") == ("Bearer" if answer.headers["content-type"].endswith("json") else None)


def test_every_route_refuses_a_scope_that_is_too_small(settings: Settings, service: TestClient, as_: As) -> None:
    headers = {scope: as_(scope) for scope in Scope}
    asked_for = 0
    for name, needed in stated_scopes(create_app(settings)).items():
        for scope in Scope:
            if needed is not None and not scope.holds(needed):
                answer = service.request(*asked(name), headers=headers[scope])
                assert (answer.status_code, refusal(answer)) == (403, "urn:retort:problem:insufficient-scope"), name
                asked_for += 1
    assert asked_for > 15


def test_a_token_is_told_once_and_only_its_hash_is_stored(service: TestClient, store: Store) -> None:
    made = service.post("/v1/tokens", json={"name": "nightly job"}).json()
    assert (made["scope"], made["from_file"], made["used"]) == ("submit", False, None)
    assert made["token"].startswith("retort_")
    assert len(made["token"]) == len("retort_") + 43
    assert "token" not in service.get(f"/v1/tokens/{made['id']}").json()
    with store.engine.connect() as connection:
        kept = "".join(connection.connection.driver_connection.iterdump())  # type: ignore[union-attr]
    assert "nightly job" in kept
    assert made["token"] not in kept
    assert operators_token_of(service) not in kept


def operators_token_of(service: TestClient) -> str:
    return service.headers["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x", "scope": "root"}, "scope"),
        ({"name": "x", "days": 0}, "days"),
        ({"name": "x", "days": "7"}, "days"),
        ({"name": "x", "token": "mine"}, "token"),
        ([], ""),
    ],
)
def test_a_token_that_is_asked_for_badly_is_refused_by_field(service: TestClient, body: Any, field: str) -> None:
    answer = service.post("/v1/tokens", json=body)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, [field])


def test_a_token_that_expired_or_was_revoked_is_worth_nothing(service: TestClient, store: Store, as_: As) -> None:
    soon, other = as_("read", days=1), as_("read", "bob")
    assert service.get("/v1/studies", headers=soon).status_code == 200
    with store.engine.execution_options(retort_writes=True).begin() as connection:
        connection.exec_driver_sql(f"UPDATE token SET expires = {store.now()} WHERE owner = 'ann'")
    assert service.get("/v1/studies", headers=soon).status_code == 401
    assert service.delete("/v1/tokens/3").json()["revoked"]
    assert service.get("/v1/studies", headers=other).status_code == 401
    assert service.delete("/v1/tokens/7").status_code == 404


def test_the_operators_token_is_in_a_file_for_its_owner_alone_and_cannot_be_revoked(service: TestClient, settings: Settings) -> None:
    assert stat.S_IMODE((settings.home / "token").stat().st_mode) == 0o600
    answer = service.delete("/v1/tokens/1")
    assert answer.status_code == 409
    assert "token file" in answer.json()["detail"]
    assert service.get("/v1/tokens").json()["items"][0]["name"] == "operator"


def test_another_token_in_the_file_takes_the_place_of_the_one_before(settings: Settings) -> None:
    with TestClient(create_app(settings), base_url=ADDRESS) as client:
        before = operators_token(settings)
        assert client.get("/v1/tokens", headers=bearing(before)).status_code == 200
    (settings.home / "token").unlink()
    with TestClient(create_app(settings), base_url=ADDRESS) as client:
        assert client.get("/v1/tokens", headers=bearing(before)).status_code == 401
        assert len(client.get("/v1/tokens", headers=bearing(operators_token(settings))).json()["items"]) == 1


def test_a_token_in_the_file_that_could_be_guessed_is_refused(settings: Settings) -> None:
    (settings.home / "token").write_text("secret\n")
    with pytest.raises(ValueError, match="6 characters; it needs 32"):
        operator_token(settings.home / "token")


def test_who_submits_owns_and_only_the_owner_and_an_administrator_move_it(service: TestClient, as_: As) -> None:
    ann, bob = as_("submit", "ann"), as_("submit", "bob")
    assert service.post("/v1/studies", json=SPEC, headers=ann).json()["owner"] == "ann"
    assert service.get("/v1/studies", headers=bob).json()["items"][0]["owner"] == "ann"
    refused = service.post("/v1/studies/1:cancel", headers=bob)
    assert (refused.status_code, refused.json()["detail"]) == (403, "study 1 is ann's; they may change it, and an administrator")
    assert service.post("/v1/studies/1:cancel", headers=ann).status_code == 202
    assert service.post("/v1/studies/1:resume").status_code == 202  # the operator
    service.post("/v1/schedules", json=SATURDAYS, headers=bob)
    assert service.get("/v1/schedules/1").json()["owner"] == "bob"
    for change in (("POST", ":pause"), ("POST", ":resume"), ("DELETE", "")):
        assert service.request(change[0], f"/v1/schedules/1{change[1]}", headers=ann).status_code == 403


def test_several_people_hold_tokens_of_one_owner_which_is_a_project(service: TestClient, as_: As) -> None:
    of_ann, of_bob = (as_("submit", "vision", name=f"{who} for vision") for who in ("ann", "bob"))
    service.post("/v1/studies", json=SPEC, headers=of_ann)
    service.post("/v1/studies", json=SPEC, headers=as_("submit", "speech"))
    assert service.post("/v1/studies/1:cancel", headers=of_bob).status_code == 202
    assert service.post("/v1/studies/2:cancel", headers=of_bob).status_code == 403
    listed = [[study["id"] for study in service.get("/v1/studies", params={"owner": owner}).json()["items"]] for owner in ("vision", "x")]
    assert listed == [[1], []]
    tokens = {token["id"]: token["name"] for token in service.get("/v1/tokens").json()["items"]}
    acts = service.get("/v1/audit", params={"subject": "study 1"}).json()["items"]
    assert [(act["action"], act["owner"], tokens[act["token"]]) for act in acts] == [
        ("study.cancel", "vision", "bob for vision"),
        ("study.submit", "vision", "ann for vision"),
    ]


def test_a_study_from_before_there_were_owners_is_everybodys(service: TestClient, store: Store, as_: As) -> None:
    store.create_study(read_submission(SPEC))
    assert service.get("/v1/studies/1").json()["owner"] is None
    assert service.post("/v1/studies/1:cancel", headers=as_("submit", "bob")).status_code == 202


def test_the_studies_of_a_schedule_are_its_owners(service: TestClient, store: Store, as_: As) -> None:
    service.post("/v1/schedules", json=SATURDAYS, headers=as_("submit", "bob"))
    make_due(store, 1)
    Cron(store).step()
    assert service.get("/v1/studies/1").json()["owner"] == "bob"


def test_the_audit_says_who_changed_what(service: TestClient, as_: As) -> None:
    ann = as_("submit", "ann")
    service.post("/v1/studies", json=SPEC, headers=ann | {"Idempotency-Key": "monday"})
    service.post("/v1/studies", json=SPEC, headers=ann | {"Idempotency-Key": "monday"})  # makes none, and is no act
    service.post("/v1/studies/1:cancel")
    service.post("/v1/studies/1:cancel")  # refused, and no act
    service.post("/v1/schedules", json=SATURDAYS, headers=ann)
    service.post("/v1/schedules/1:pause", headers=ann)
    service.delete("/v1/tokens/2")
    acts = service.get("/v1/audit").json()["items"]
    operator = service.get("/v1/tokens/1").json()["owner"]
    assert [(act["owner"], act["action"], act["subject"]) for act in acts] == [
        (operator, "token.revoke", "token 2"),
        ("ann", "schedule.pause", "schedule 1"),
        ("ann", "schedule.add", "schedule 1"),
        (operator, "study.cancel", "study 1"),
        ("ann", "study.submit", "study 1"),
        (operator, "token.create", "token 2"),
    ]
    assert [act["id"] for act in service.get("/v1/audit?subject=study%201").json()["items"]] == [3, 2]
    first = service.get("/v1/audit?limit=4").json()
    assert [act["id"] for act in service.get(f"/v1/audit?cursor={first['next']}").json()["items"]] == [2, 1]


def test_the_last_use_is_known_at_once_and_written_at_most_once_a_minute(service: TestClient, store: Store, as_: As) -> None:
    ann = as_("read")
    tokens = Tokens(store)
    for _ in range(3):
        service.get("/v1/studies", headers=ann)
    assert tokens.token(2).used is None
    used = service.get("/v1/tokens").json()["items"][1]["used"]
    assert used is not None
    assert tokens.token(2).used is not None


def test_a_token_has_so_many_requests_a_minute_and_others_have_theirs(settings: Settings) -> None:
    with TestClient(create_app(settings, AccessSettings(settings.home / "token", requests=5)), base_url=ADDRESS) as client:
        operator = bearing(operators_token(settings))
        other = bearing(client.post("/v1/tokens", json={"name": "x"}, headers=operator).json()["token"])
        assert [client.get("/v1/studies", headers=operator).status_code for _ in range(6)] == [200] * 4 + [429] * 2
        refused = client.get("/v1/studies", headers=operator)
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.headers["content-type"] == "application/problem+json"
        assert client.get("/v1/studies", headers=other).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_a_token_has_so_many_bytes_of_bodies_a_minute(settings: Settings) -> None:
    with TestClient(create_app(settings, AccessSettings(settings.home / "token", body_bytes=500_000)), base_url=ADDRESS) as client:
        operator = bearing(operators_token(settings))
        large = {"name": "x" * 190_000}
        assert [client.post("/v1/tokens", json=large, headers=operator).status_code for _ in range(4)] == [422, 422, 429, 429]
        assert client.get("/v1/studies", headers=operator).status_code == 200


def test_what_the_environment_says_of_access_is_checked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_ALLOWED_HOSTS", "a.example, *.b.example,")
    monkeypatch.setenv("RETORT_REQUESTS_PER_MINUTE", "10")
    assert access_settings(settings.home) == AccessSettings(settings.home / "token", ("a.example", "*.b.example"), 10)
    monkeypatch.setenv("RETORT_BODY_MB_PER_MINUTE", "-1")
    with pytest.raises(ValueError, match="RETORT_BODY_MB_PER_MINUTE is '-1'; a whole number from 1"):
        access_settings(settings.home)
