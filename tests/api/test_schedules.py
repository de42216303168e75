"""Schedules over REST and from the command line."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from orchestrator.records.schema import Schedule
from orchestrator.records.store import Store
from orchestrator.schedules.loop import Cron
from orchestrator.schedules.store import Schedules
from tests.api.conftest import SPEC, Driver
from tests.api.test_cli import Retort, retort

__all__ = ["retort"]  # the fixture
SATURDAYS = {"study": SPEC, "cron": "0 2 * * 6", "tz": "Europe/Paris"}


def fields(answer: dict[str, Any]) -> list[str]:
    return [error["field"] for error in answer["errors"]]


def make_due(store: Store, schedule: int) -> None:
    """As if its next time had just come."""
    schedules = Schedules(store)
    with schedules._writes.begin() as session:
        session.get_one(Schedule, schedule).due = store.now() - 1


def test_a_schedule_is_made_looked_at_paused_resumed_and_removed(service: TestClient) -> None:
    made = service.post("/v1/schedules", json=SATURDAYS)
    assert (made.status_code, made.headers["Location"]) == (201, "/v1/schedules/1")
    answer = made.json()
    assert (answer["name"], answer["scale"], answer["misfire"], answer["overlap"], answer["fresh"]) == (
        "Does FitNet help?",
        "nano",
        "once",
        "skip",
        False,
    )
    times = [datetime.fromisoformat(time) for time in answer["next"]]
    assert [(time.weekday(), time.hour, time.minute) for time in times] == [(5, 2, 0)] * 3
    assert [later - earlier for earlier, later in pairwise(times)] == [timedelta(days=7)] * 2
    assert service.get("/v1/schedules/1").json() == answer
    assert [item["id"] for item in service.get("/v1/schedules").json()["items"]] == [1]
    paused = service.post("/v1/schedules/1:pause").json()
    assert (paused["paused"], paused["next"]) == (True, [])
    assert service.post("/v1/schedules/1:resume").json()["next"] == answer["next"]
    assert service.delete("/v1/schedules/1").status_code == 204
    assert service.get("/v1/schedules").json() == {"items": []}
    assert service.delete("/v1/schedules/1").status_code == 404


def test_a_yaml_body_is_as_good_and_fresh_forces_the_study(service: TestClient) -> None:
    body = yaml.safe_dump(SATURDAYS | {"fresh": True, "name": "nightly", "misfire": "skip", "overlap": "replace"})
    answer = service.post("/v1/schedules", content=body, headers={"Content-Type": "application/yaml"}).json()
    assert (answer["name"], answer["fresh"], answer["spec"]["force"], answer["misfire"], answer["overlap"]) == (
        "nightly",
        True,
        True,
        "skip",
        "replace",
    )


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"cron": "0 25 * * *"}, ["cron"]),
        ({"cron": "often"}, ["cron"]),
        ({"tz": "Europe/Pariss"}, ["tz"]),
        ({"misfire": "never"}, ["misfire"]),
        ({"study": SPEC | {"dataset": "digit", "seeds": []}}, ["study.dataset", "study.seeds"]),
        ({"study": SPEC | {"dataset": "digit"}, "cron": ""}, ["cron", "study.dataset"]),
        ({"study": "digits"}, ["study"]),
        ({"every": "night"}, ["every"]),
        ({"name": "two\nlines"}, ["name"]),
    ],
)
def test_what_is_wrong_is_named_by_its_field(service: TestClient, changes: dict[str, Any], wrong: list[str]) -> None:
    answer = service.post("/v1/schedules", json=SATURDAYS | changes)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:retort:problem:invalid-schedule"
    assert fields(answer.json()) == wrong
    assert service.get("/v1/schedules").json() == {"items": []}


def test_a_body_that_is_no_mapping_is_refused(service: TestClient) -> None:
    assert service.post("/v1/schedules", json=[1]).json()["detail"] == "a schedule is a mapping with study and cron; this is list"


@pytest.mark.parametrize("path", ["/v1/schedules/7", "/v1/schedules/7:pause", "/v1/schedules/7:resume"])
def test_an_unknown_schedule_is_not_found(service: TestClient, path: str) -> None:
    answer = service.post(path) if ":" in path else service.get(path)
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no schedule '7'")


def test_its_runs_tell_their_studies_and_the_table_says_where_it_comes_from(service: TestClient, store: Store) -> None:
    service.post("/v1/schedules", json=SATURDAYS)
    for study in (1, 2):
        make_due(store, 1)
        Cron(store).step()
        Driver(store, study).train_all()
        Cron(store).step()
    newest, first = service.get("/v1/schedules/1").json()["runs"]
    assert (first["outcome"], first["study"], first["state"], first["against"], first["moved"]) == ("submitted", 1, "finished", None, None)
    assert (newest["outcome"], newest["study"], newest["state"], newest["against"], newest["moved"]) == ("submitted", 2, "finished", 1, [])
    table = service.get("/v1/studies/2/table").text
    assert "- Run of schedule 1, due " in table
    assert "Nothing moved more than its noise since study 1." in table
    assert service.get("/v1/studies/2/table?format=json").json()["notes"][-1].startswith("Run of schedule 1")


# --- the command


def test_the_command_adds_and_tells_the_next_three_times_there_and_here(retort: Retort) -> None:
    done = retort("schedule", "add", "study.yaml", "--cron", "0 2 * * 6", "--tz", "Europe/Paris", "--scale", "smoke")
    assert (done.returncode, done.stderr) == (0, "")
    first, *times, last = done.stdout.splitlines()
    assert first == "schedule 1: Does FitNet help? (0 2 * * 6 in Europe/Paris, scale smoke)"
    assert len(times) == 3
    assert all(line.startswith("  next: Sat ") and " 02:00 CE" in line and ", here " in line for line in times)
    assert last == "its runs: retort schedule show 1"


def test_a_shipped_study_is_named_by_its_id(retort: Retort, store: Store) -> None:
    assert retort("schedule", "add", "digits", "--cron", "0 2 * * *", "--fresh").returncode == 0
    (schedule,) = Schedules(store).all()
    assert (schedule.source, schedule.zone, schedule.spec["force"]) == ("digits", "UTC", True)


def test_the_command_names_the_field_that_is_wrong(retort: Retort) -> None:
    done = retort("schedule", "add", "study.yaml", "--cron", "0 2 * *", "--tz", "Europe/Pariss", "--set", "dataset=digit")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["cron", "tz", "study.dataset"]
    assert "did you mean 'Europe/Paris'" in lines[1]


def test_list_show_pause_resume_and_remove(retort: Retort, store: Store, tmp_path: Path, moved: Callable[[], None]) -> None:
    assert retort("schedule", "list").stdout.startswith("no schedule yet; add one: retort schedule add digits")
    retort("schedule", "add", "study.yaml", "--cron", "0 2 * * 6", "--tz", "Europe/Paris")
    moved()
    shown = retort("schedule", "show", "1").stdout
    assert "missed times: once; while the study before is running: skip" in shown
    assert "submitted, study 2 (finished)" in shown
    assert "WORSE than study 1: fitnet: AP 42 -> 32 (noise 0.2)" in shown
    assert "study 2 (finished), 3 WORSE" in retort("schedule", "list").stdout
    assert "- WORSE: fitnet: AP 42.0 -> 32.0 (-10.0, noise 0.20)" in retort("table", "2").stdout
    assert retort("schedule", "pause", "1").stdout == "schedule 1 is paused; it goes on with: retort schedule resume 1\n"
    assert "next: paused" in retort("schedule", "list").stdout
    assert retort("schedule", "resume", "1").stdout.startswith("schedule 1 goes on\n  next: Sat ")
    assert retort("schedule", "remove", "1").stdout == "schedule 1 is removed; its studies stay\n"
    gone = retort("schedule", "show", "1")
    assert (gone.returncode, gone.stderr) == (1, "there is no schedule '1'\n")


@pytest.fixture
def moved(store: Store) -> Callable[[], None]:
    """Two runs of schedule 1, of which the second's FitNet is ten points worse."""

    def run() -> None:
        for study, change in ((1, 0.0), (2, -10.0)):
            make_due(store, 1)
            Cron(store).step()
            driver = Driver(store, study)
            driver.start()
            for rank, name in enumerate(driver.planned):
                driver.train(name, 40.0 + rank + (change if name.startswith("fitnet") else 0.0))
            store.conclude(study, driver.attempt)
            Cron(store).step()

    return run
