"""Pages without a browser: what they are sent with, that they work without scripts, and that requests cannot lead them astray."""

import re
from html import unescape

import httpx
import pytest
from fastapi.testclient import TestClient

from api.pages.assets import FOLDER, asset
from orchestrator.records.store import Store
from studies.submission import read_submission
from tests.api.conftest import ADDRESS, SPEC, Driver, LiveService, bearing

MARKUP = "<script>alert(1)</script> & {{ 7 * 7 }}"
PAGES = ["/studies", "/studies/1", "/studies/1/trials/student/seed-0", "/tables", "/tables/frs2021/table-1", "/compare", "/schedules"]
PAGES += ["/queue", "/status", "/submit", "/compare?row=1:student&row=1:fitnet"]


@pytest.fixture
def service(service: TestClient) -> TestClient:
    """A service asked as its own pages ask it."""
    service.headers["Origin"] = ADDRESS
    return service


@pytest.fixture
def trained(service: TestClient, store: Store) -> TestClient:
    service.post("/v1/studies", json=SPEC | {"name": MARKUP})
    Driver(store, 1).train_all()
    return service


def test_the_first_page_is_that_of_the_studies(service: TestClient) -> None:
    answer = service.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies")


def test_pages_run_and_load_nothing_but_their_own(trained: TestClient) -> None:
    for path in PAGES:
        answer = trained.get(path)
        assert answer.status_code == 200, path
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
        assert re.findall(r"style=|<style|\son\w+=", answer.text) == [], path
        assert re.findall(r"<script(?! (?:type=\"module\" )?src=\"/static/)[^>]*>", answer.text) == [], path


def test_titles_with_markup_stay_text(trained: TestClient) -> None:
    for path in ("/studies", "/studies/1", "/studies/1/trials/student/seed-0", "/submit?study=1"):
        page = trained.get(path).text
        assert "<script>alert" not in page, path
        assert MARKUP in unescape(page), path


ASTRAY = {
    "/studies/2": 404,
    "/studies/x": 422,
    "/studies/9223372036854775808": 422,
    "/studies/1/trials/nobody": 404,
    "/studies/1?rows=0": 422,
    "/compare?row=1:nobody&row=1:student": 422,
    "/compare?row=x": 422,
    "/tables/frs2021/table-99": 404,
    "/tables/../../etc/passwd": 404,
    "/schedules/1": 404,
    "/submit?table=nothing/like-that": 404,
}


def test_what_is_not_there_is_told_on_a_page(trained: TestClient) -> None:
    assert {path: trained.get(path).status_code for path in ASTRAY} == ASTRAY


def test_an_error_is_a_page_and_escapes_what_was_asked(trained: TestClient) -> None:
    answer = trained.get("/studies/1/trials/<b>x")
    assert answer.headers["content-type"].startswith("text/html")
    assert "<b>x" not in answer.text


def test_nothing_but_the_pages_own_files_is_sent(service: TestClient) -> None:
    for name in ("../web.py", "..%2fweb.py", "vendor/../../web.py", "nothing.js", "vendor/LICENSE.uplot"):
        assert service.get(f"/static/{name}").status_code == 404, name


def test_files_are_kept_as_long_as_they_are_the_same(service: TestClient) -> None:
    answer = service.get(asset("style.css"))
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    assert service.get("/static/style.css").headers["cache-control"] == "no-cache"
    assert service.get("/static/style.css", headers={"Accept-Encoding": "identity"}).content == (FOLDER / "style.css").read_bytes()


def test_every_vendored_file_has_its_licence() -> None:
    vendored = {path.name.partition("-")[0] for path in (FOLDER / "vendor").glob("*-*")}
    assert vendored == {path.suffix[1:] for path in (FOLDER / "vendor").glob("LICENSE.*")}


def test_a_study_is_submitted_cancelled_and_resumed_without_scripts(service: TestClient) -> None:
    page = service.get("/submit?table=digits&scale=smoke").text
    key = re.search(r'name="key" value="(\w+)"', page)
    text = re.search(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)
    assert key
    assert text
    fields = {"key": key[1], "text": unescape(text[1])}
    answer = service.post("/submit", data=fields, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies/1")
    assert service.post("/submit", data=fields, follow_redirects=False).headers["location"] == "/studies/1"  # sent twice, made once
    assert ">Go on<" in service.post("/studies/1/pause").text
    assert ">Pause<" in service.post("/studies/1/unpause").text
    assert "cancelled" in service.post("/studies/1/cancel").text
    assert service.post("/studies/1/resume").status_code == 200
    assert service.get("/v1/studies/1").json()["state"] == "queued"


def test_a_study_that_is_wrong_comes_back_with_its_problems(service: TestClient) -> None:
    answer = service.post("/submit", data={"text": "name: x\ndataset: nowhere\n"})
    assert answer.status_code == 422
    assert "line 2" in answer.text
    assert "nowhere" in answer.text
    assert service.get("/v1/studies").json()["items"] == []


def test_a_move_that_is_not_allowed_is_told(trained: TestClient) -> None:
    answer = trained.post("/studies/1/cancel")
    assert answer.status_code == 409
    assert "cannot cancel" in answer.text


def test_what_is_no_form_of_ours_is_refused(service: TestClient) -> None:
    urlencoded = "application/x-www-form-urlencoded"
    for kind, body, status in (
        ("application/json", b"{}", 415),
        (urlencoded, b"text=" + b"x" * 300_001, 413),
        (urlencoded, b"text=%ff", 400),
        (urlencoded, b"&".join(b"a=1" for _ in range(99)), 400),
    ):
        assert service.post("/submit", content=body, headers={"Content-Type": kind}).status_code == status


def test_a_page_is_told_that_something_happened(live: LiveService, store: Store) -> None:
    httpx.post(f"{live.url}/v1/studies", json=SPEC, headers=bearing(live.token))
    newest = store.events(1)[-1].id
    with httpx.stream("GET", f"{live.url}/live?study=1&after={newest}", timeout=20, headers=bearing(live.token)) as answer:
        store.request_cancel(1)
        told = next(line for line in answer.iter_lines() if line.startswith("id: "))
    assert newest < int(told.removeprefix("id: ")) <= store.events(1)[-1].id


def test_a_copy_of_a_study_is_the_same_study(trained: TestClient, store: Store) -> None:
    page = trained.get("/submit?study=1").text
    text = re.search(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)
    assert text
    location = trained.post("/submit", data={"text": unescape(text[1])}, follow_redirects=False).headers["location"]
    assert store.study(int(location.rpartition("/")[2])).spec == store.study(1).spec


def test_who_is_not_known_is_asked_to_log_in(service: TestClient) -> None:
    stranger = TestClient(service.app, base_url=ADDRESS, headers={"Accept": "text/html"})
    for path in PAGES:
        answer = stranger.get(path)
        assert answer.status_code == 401, path
        assert 'action="/login"' in answer.text


@pytest.fixture
def reader(trained: TestClient) -> TestClient:
    """Somebody with a token that may only read."""
    made = trained.post("/v1/tokens", json={"name": "looks", "owner": "Ada", "scope": "read"}).json()
    return TestClient(trained.app, base_url=ADDRESS, headers={"Origin": ADDRESS, **bearing(made["token"])})


def test_who_may_only_read_changes_nothing(reader: TestClient) -> None:
    for path in ("/studies/1/cancel", "/studies/1/resume", "/studies/1/pause", "/submit", "/schedules", "/schedules/1/remove"):
        assert reader.post(path, data={"text": "x"}).status_code == 403, path


def test_who_may_only_read_is_offered_no_change(reader: TestClient, store: Store) -> None:
    again, _ = store.create_study(read_submission(SPEC))
    page = reader.get(f"/studies/{again.id}").text
    assert "Cancel" not in page
    assert "Ada" in page
    assert re.search(r"<button class=\"main\" disabled", reader.get("/submit").text)


def test_what_is_somebody_elses_stays_as_it_is(trained: TestClient, store: Store) -> None:
    made = trained.post("/v1/tokens", json={"name": "works", "owner": "Ada", "scope": "submit"}).json()
    other = TestClient(trained.app, base_url=ADDRESS, headers={"Origin": ADDRESS, **bearing(made["token"])})
    study, _ = store.create_study(read_submission(SPEC), owner="Grace")
    assert "Cancel" not in other.get(f"/studies/{study.id}").text
    answer = other.post(f"/studies/{study.id}/cancel")
    assert (answer.status_code, "Grace" in answer.text) == (403, True)
    own = other.post("/submit", data={"text": "table: ld2022/table-1"}, follow_redirects=False).headers["location"]
    assert "Cancel" in other.get(own).text


def test_a_form_of_another_site_is_refused(trained: TestClient) -> None:
    for origin in ("http://evil.example", "null"):
        assert trained.post("/studies/1/resume", headers={"Origin": origin}).status_code == 403
