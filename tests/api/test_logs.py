"""The output of drivers and trials over REST and in the terminal: in pieces, followed, inert."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.client import Client, Refused
from api.command.logs import log_lines
from orchestrator.outputs import driver_output
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from tests.api.conftest import SPEC, Driver, LiveService


@pytest.fixture
def driver(service: TestClient, store: Store) -> Driver:
    """A study with a driver that is up and one trial that trains."""
    study = service.post("/v1/studies", json=SPEC).json()["id"]
    driver = Driver(store, study)
    driver.start()
    driver.begin("student/seed-0")
    return driver


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as opened:
        opened.write(text)


def test_the_driver_and_a_trial_are_read_from_where_one_has_read_to(service: TestClient, driver: Driver, settings: Settings) -> None:
    url = f"/v1/studies/{driver.study_id}/logs"
    assert service.get(url).json() == {"text": "", "cursor": "1.0", "more": False, "ended": False}
    write(driver_output(settings, driver.study_id, 1), "up\nhalf a l")
    first = service.get(url).json()
    assert (first["text"], first["more"], first["ended"]) == ("up\n", True, False)
    write(driver_output(settings, driver.study_id, 1), "ine\n")
    assert service.get(url, params={"cursor": first["cursor"]}).json()["text"] == "half a line\n"
    trial = next(each for each in driver.store.trials(driver.study_id) if each.name == "student/seed-0")
    write(settings.trials / str(trial.folder) / "output.log", "epoch 1/2\n")
    assert service.get(url, params={"trial": "student/seed-0"}).json()["text"] == "epoch 1/2\n"


def test_what_is_not_there_and_what_cannot_be_read_is_told(service: TestClient, driver: Driver) -> None:
    url = f"/v1/studies/{driver.study_id}/logs"
    assert service.get("/v1/studies/99/logs").json()["detail"] == "there is no study '99'"
    assert service.get(url, params={"trial": "../../etc/passwd"}).json()["detail"] == "there is no trial '../../etc/passwd'"
    assert service.get(url, params={"cursor": "made up"}).json()["errors"][0]["field"] == "cursor"


def test_the_terminal_gets_inert_lines_and_follows_to_the_end(live: LiveService, driver: Driver, settings: Settings) -> None:
    output = driver_output(settings, driver.study_id, 1)
    write(output, "\x1b]0;title\x07up \x1b[31mred\x1b[0m\r\n    File indented\n")
    waits = iter(["more", "end"])

    def sleep(_: float) -> None:
        if next(waits) == "more":
            write(output, "more\n")
        else:
            for name in driver.planned:
                driver.train(name, 40.0) if name != "student/seed-0" else driver.finish(name, 40.0)
            driver.store.conclude(driver.study_id, driver.attempt)
            write(output, "done")

    lines = list(log_lines(Client(live.url, live.token), driver.study_id, None, follow=True, sleep=sleep))
    assert lines == ["up red", "    File indented", "more", "done"]
    with pytest.raises(Refused, match="there is no trial 'nobody'"):
        list(log_lines(Client(live.url, live.token), driver.study_id, "nobody", follow=False))
