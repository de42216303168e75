"""Pages without a browser: what they are sent with, that they work without scripts, and that requests cannot lead them astray."""

import re
from html import unescape
from pathlib import Path

import httpx
import pytest
import yaml
from fastapi.testclient import TestClient

from api.pages.assets import FOLDER, asset
from orchestrator.records.store import Store
from studies.submission import read_submission
from tests.api.conftest import ADDRESS, SPEC, Driver, LiveService, bearing
from tests.api.test_best import searched
from tests.orchestrator.searching import formulas

MARKUP = "<script>alert(1)</script> & {{ 7 * 7 }}"
PAGES = ["/studies", "/studies/1", "/studies/1/trials/student/seed-0", "/tables", "/tables/frs2021/table-1", "/compare", "/schedules"]
PAGES += ["/studies/1/figures", "/queue", "/status", "/submit", "/compare?row=1:student&row=1:fitnet"]


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


def test_browsers_find_the_icon_where_no_page_names_it(service: TestClient) -> None:
    answer = service.get("/favicon.ico")
    assert (answer.headers["content-type"], answer.content) == ("image/svg+xml", (FOLDER / "icon.svg").read_bytes())


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


def editor_of(service: TestClient, address: str) -> str:
    """What the editor begins with at an address."""
    text = re.search(r"<textarea[^>]*>(.*?)</textarea>", service.get(address).text, re.DOTALL)
    assert text
    return unescape(text[1])


def submitted(service: TestClient, text: str) -> int:
    """The number of the study that was made of a text."""
    location = service.post("/submit", data={"text": text}, follow_redirects=False).headers["location"]
    return int(location.rpartition("/")[2])


def test_a_copy_of_a_study_is_the_same_study(trained: TestClient, store: Store) -> None:
    made = submitted(trained, editor_of(trained, "/submit?study=1"))
    assert store.study(made).spec == store.study(1).spec


@pytest.mark.parametrize("begin", ["table=own-table", "table=frs2021/table-3&rows=1"])
def test_a_copy_of_a_table_of_ones_own_keeps_its_rows_and_published_numbers(service: TestClient, store: Store, begin: str) -> None:
    text = editor_of(service, f"/submit?{begin}&scale=smoke").replace("title:", "title: My", 1)
    first = submitted(service, text)
    presentation = store.presentation(first)
    assert presentation.table is None
    assert any(row.published for row in presentation.rows)
    assert store.presentation(submitted(service, editor_of(service, f"/submit?study={first}"))) == presentation
    larger = submitted(service, editor_of(service, f"/submit?study={first}&scale=nano"))
    assert store.study(larger).spec["scale"] == "nano"
    assert [row.published for row in store.presentation(larger).rows] == [row.published for row in presentation.rows]


def test_a_copy_of_a_shipped_table_names_it_and_what_was_asked_for_on_top(service: TestClient, store: Store) -> None:
    asked = {"table": "frs2021/table-3", "scale": "smoke", "seeds": [0, 1], "on_broken": "skip"}
    made = service.post("/v1/studies", json=asked).json()["id"]
    assert yaml.safe_load(editor_of(service, f"/submit?study={made}")) == asked
    rows = editor_of(service, "/submit?table=frs2021/table-3&scale=smoke&rows=1")
    assert store.presentation(submitted(service, rows)).table == "frs2021/table-3"  # written out, and nothing was changed


def test_a_study_shows_what_its_search_tried_and_begins_another_with_the_best(service: TestClient, store: Store, tmp_path: Path) -> None:
    study = service.post("/v1/studies", json=formulas.a_search().model_dump(mode="json")).json()["id"]
    assert "0 of 12 combinations" in service.get(f"/studies/{study}").text
    searched(store, tmp_path, study)
    page = unescape(service.get(f"/studies/{study}").text)
    assert "12 of 12 combinations" in page
    listed = re.findall(r'data-label="number">(\d+)<', page)
    tried = store.presentation(study).searches[0].tried
    assert sorted(map(int, listed)) == [each.number for each in tried]
    goals = {each.number: each.goals[0] for each in tried if each.goals}
    assert [int(number) for number in listed[: len(goals)]] == sorted(goals, key=goals.__getitem__, reverse=True)
    written = yaml.safe_load(editor_of(service, f"/submit?best={study}"))
    assert written == service.get(f"/v1/studies/{study}/best").json()["spec"]
    figures = service.get(f"/studies/{study}/figures").text
    sources = re.findall(r'<img src="([^"]+)"', figures)
    assert f"/v1/studies/{study}/figures/search-ld-history.svg" in sources


def test_the_status_says_what_is_wrong_and_what_to_do(service: TestClient, store: Store) -> None:
    assert "the orchestrator has never been seen" in service.get("/status").text
    store.beat("relay", "MLflow does not answer <b>")
    told = service.get("/status").text
    assert "loop relay has trouble and tries again: MLflow does not answer &lt;b&gt;" in told
    store.beat("relay")
    assert "All is well." in service.get("/status").text


def test_a_schedule_is_removed_in_two_steps(service: TestClient) -> None:
    fields = {"text": editor_of(service, "/submit?table=digits&scale=smoke"), "cron": "0 2 * * 6"}
    page = service.post("/schedules", data=fields).text
    assert re.search(r"<details[^>]*><summary[^>]*>Remove[^<]*</summary><form", page)
    assert service.post("/schedules/1/remove").status_code == 200
    assert service.get("/v1/schedules").json()["items"] == []


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
