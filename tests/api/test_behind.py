"""MLflow and Ray's dashboard behind the login: who may what, what goes through and what does not; MLflow's is the real one."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from api.access.callers import stated_scopes
from api.access.settings import AccessSettings, access_settings
from api.app import create_app
from orchestrator.access.schema import Scope
from orchestrator.settings import Settings
from tests.api.conftest import ADDRESS, LiveService, bearing, operators_token
from tests.mlflow_server import serving


@dataclass
class Upstream:
    """A server that tells what it was asked, in pieces, and sets a cookie."""

    url: str = ""
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    more: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    kept = Upstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kept.asked.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(404 if "missing" in self.path else 200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Set-Cookie", "theirs=1; Path=/")
            self.send_header("Content-Security-Policy", "default-src *")
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in (b"first", b"second", b""):
                if self.command != "HEAD":
                    self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                if piece == b"first" and "slow" in self.path:
                    kept.more.wait(60)

        def do_GET(self) -> None:
            self.answer()

        def do_HEAD(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def do_DELETE(self) -> None:
            self.answer()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kept
    kept.more.set()
    server.shutdown()
    server.server_close()


def behind_login(settings: Settings) -> AccessSettings:
    return AccessSettings(settings.home / "token", behind_login=True)


@pytest.fixture
def before(settings: Settings, upstream: Upstream) -> Iterator[TestClient]:
    """The service before such a server, asked with its operator's token."""
    chosen = replace(settings, mlflow=upstream.url, ray_jobs=upstream.url)
    with TestClient(create_app(chosen, behind_login(settings)), base_url=ADDRESS, raise_server_exceptions=False) as client:
        client.headers.update(bearing(operators_token(settings)))
        yield client


def test_nothing_is_served_from_behind_unless_somebody_says_so(service: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [service.get(path).status_code for path in ("/mlflow/", "/mlflow/api/2.0/mlflow/experiments/get", "/ray/")] == [404] * 3
    assert not access_settings().behind_login
    monkeypatch.setenv("RETORT_BEHIND_LOGIN", "1")
    assert access_settings().behind_login


def test_every_route_asks_for_its_scope(before: TestClient, settings: Settings, upstream: Upstream) -> None:
    scopes = {
        name: scope
        for name, scope in stated_scopes(before.app).items()
        if name.split()[1].startswith(("/mlflow", "/ray"))  # type: ignore[arg-type]
    }
    assert len(scopes) == 27
    reading = {name for name, scope in scopes.items() if scope == Scope.READ}
    assert {name for name in reading if not name.startswith(("GET", "HEAD"))} == {
        "POST /mlflow/graphql",
        *(
            f"POST /mlflow/{interface}/{question}"
            for interface in ("api", "ajax-api")
            for question in (
                *(f"2.0/mlflow/{each}/search" for each in ("experiments", "runs", "logged-models")),
                "2.0/mlflow/experiments/search-datasets",
                "3.0/mlflow/traces/search",
            )
        ),
    }
    assert all("/mlflow" in name for name in reading)
    tokens = {scope: before.post("/v1/tokens", json={"name": "x", "scope": scope}).json()["token"] for scope in ("read", "submit")}
    for name, scope in scopes.items():
        method, path = name.replace("{path}", "x").replace("{path:path}", "x").split()
        assert before.request(method, path, headers=bearing("retort_wrong")).status_code == 401
        if scope == Scope.ADMIN:
            assert {before.request(method, path, headers=bearing(token)).status_code for token in tokens.values()} == {403}, name
    assert upstream.asked == []


def test_what_says_who_asked_stays_here_and_what_an_answer_may_is_ours_to_say(before: TestClient, upstream: Upstream) -> None:
    headers = {"Cookie": "a=b", "Origin": ADDRESS, "Referer": f"{ADDRESS}/status", "X-Forwarded-For": "1.2.3.4", "X-Theirs": "yes"}
    answer = before.post("/mlflow/a%20b/c?d=%2F&e=1", json={"f": 1}, headers=headers)
    [(method, path, told, body)] = upstream.asked
    assert (method, path, json.loads(body)) == ("POST", "/a%20b/c?d=%2F&e=1", {"f": 1})
    assert told["x-theirs"] == "yes"
    assert not told.keys() & {"cookie", "authorization", "origin", "referer", "x-forwarded-for"}
    assert told["host"] == upstream.url.removeprefix("http://")
    assert (answer.text, answer.headers["content-type"]) == ("firstsecond", "text/html")
    assert not answer.headers.keys() & {"set-cookie", "access-control-allow-origin"}
    assert "script-src" not in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert before.get("/mlflow/missing").status_code == 404
    assert before.delete("/mlflow/missing").status_code == 404
    [act] = before.get("/v1/audit").json()["items"]  # of what was changed
    assert (act["action"], act["detail"]) == ("mlflow.change", {"method": "POST", "path": "a b/c"})
    assert before.head("/mlflow/x").text == ""


def test_its_one_page_runs_its_own_scripts_and_loads_nothing_from_elsewhere(before: TestClient) -> None:
    assert before.get("/mlflow", follow_redirects=False).headers["location"] == "/mlflow/"
    policy = before.get("/mlflow/").headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "http" not in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]


def test_ray_is_shown_its_own_token_and_asked_only_to_look(
    before: TestClient, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "ray-token"))
    assert before.get("/ray/").status_code == 502
    (tmp_path / "ray-token").write_text("secret of Ray\n")
    assert before.get("/ray/api/jobs/").status_code == 200
    [(_, path, told, _)] = upstream.asked
    assert (path, told["authorization"]) == ("/api/jobs/", "Bearer secret of Ray")
    assert {before.request(method, "/ray/api/jobs/").status_code for method in ("POST", "PUT", "PATCH", "DELETE")} == {405}
    assert len(upstream.asked) == 1


def test_what_mlflow_allows_to_its_own_machine_alone_is_not_reached_through_here(before: TestClient, upstream: Upstream) -> None:
    for path in ("config", "message", "sessions/1/stream", "", "/config"):
        for method in ("GET", "POST", "PUT", "PATCH"):
            assert before.request(method, f"/mlflow/ajax-api/3.0/mlflow/assistant/{path}").status_code == 404
    assert upstream.asked == []


def test_a_page_of_another_site_changes_nothing_behind_either(before: TestClient, upstream: Upstream) -> None:
    assert before.post("/mlflow/api/2.0/mlflow/runs/delete", json={}, headers={"Origin": "http://evil.example"}).status_code == 403
    assert before.post("/mlflow/api/2.0/mlflow/runs/delete", content="{}", headers={"Content-Type": "text/plain"}).status_code == 415
    assert upstream.asked == []


def test_a_body_is_bounded_and_a_server_that_is_away_is_said_so(before: TestClient, settings: Settings, upstream: Upstream) -> None:
    assert before.post("/mlflow/x", content=b"1" * 1_000_001, headers={"Content-Type": "application/json"}).status_code == 413
    assert upstream.asked == []
    with TestClient(create_app(settings, behind_login(settings)), base_url=ADDRESS) as alone:
        answer = alone.get("/mlflow/", headers=bearing(operators_token(settings)))
    assert (answer.status_code, answer.json()["detail"]) == (502, "MLflow does not answer (ConnectError)")


def test_an_answer_streams_as_it_comes(settings: Settings, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_BEHIND_LOGIN", "1")
    live = LiveService(replace(settings, mlflow=upstream.url))
    live.start()
    try:
        with httpx.stream("GET", f"{live.url}/mlflow/slow", headers=bearing(live.token)) as answer:
            pieces = answer.iter_raw()
            assert next(pieces) == b"first"  # before there is a second
            upstream.more.set()
            assert b"".join(pieces) == b"second"
    finally:
        live.stop()


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


def test_mlflow_s_own_client_reads_with_a_token_and_changes_as_administrator(
    settings: Settings, mlflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETORT_BEHIND_LOGIN", "1")
    live = LiveService(replace(settings, mlflow=mlflow))
    live.start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", live.token)
        client = MlflowClient(f"{live.url}/mlflow")
        run = client.create_run(client.create_experiment("LD"), run_name="seed 0").info
        client.log_metric(run.run_id, "AP", 41.0, step=1)
        client.set_terminated(run.run_id)
        made = httpx.post(f"{live.url}/v1/tokens", json={"name": "x", "scope": "read"}, headers=bearing(live.token)).json()
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", made["token"])
        [found] = client.search_runs([run.experiment_id])
        assert (found.info.run_name, found.data.metrics) == ("seed 0", {"AP": 41.0})
        assert [point.value for point in client.get_metric_history(run.run_id, "AP")] == [41.0]
        with pytest.raises(MlflowException, match="this needs the scope admin"):
            client.delete_run(run.run_id)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "retort_wrong")
        with pytest.raises(MlflowException, match="401"):
            client.search_runs([run.experiment_id])
        page = httpx.get(f"{live.url}/mlflow/", headers=bearing(live.token))
        assert "<title>MLflow</title>" in page.text
    finally:
        live.stop()
