"""What is no longer needed, over REST and by the command: shown without a change, removed when asked, by administrators alone."""

import json
import os
import time
from pathlib import Path

from fastapi.testclient import TestClient

from api.command.views import usage_line
from orchestrator.garbage.usage import usage
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from studies.parse import parse_study
from studies.submission import as_submission
from tests.api.commands import Commands
from tests.api.conftest import SPEC, Driver, LiveService, bearing


def finished(store: Store, settings: Settings, study: int) -> list[Path]:
    """A study at its end, with the folders of its trials."""
    Driver(store, study).train_all()
    folders = [settings.trials / str(trial.folder) for trial in store.trials(study) if trial.folder]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "lock").touch()
        (folder / "last.pt").write_bytes(b"x" * 1000)
    stranger = settings.trials / "stranger"
    stranger.mkdir()
    (stranger / "model.pth").write_bytes(b"x" * 50)
    return folders


def test_it_is_shown_without_a_change_and_removed_when_asked(service: TestClient, store: Store, settings: Settings) -> None:
    folders = finished(store, settings, service.post("/v1/studies", json=SPEC).json()["id"])
    assert service.get("/v1/garbage").json() == {
        "items": [],
        "bytes": 0,
        "policy": {"states": 7.0, "folders": 30.0, "events": None, "points": None},
    }
    time.sleep(0.01)
    found = service.get("/v1/garbage", params={"after": 0}).json()
    assert [(item["kind"], item["count"], item["bytes"]) for item in found["items"]] == [
        ("states", len(folders), 1000 * len(folders)),
        ("folders", 1, 50),
    ]
    assert found["items"][1]["largest"] == ["stranger"]
    assert all((folder / "last.pt").exists() for folder in folders)
    assert service.post("/v1/garbage:collect", params={"after": 0}).json() == found
    assert not any((folder / "last.pt").exists() for folder in folders)
    assert not (settings.trials / "stranger").exists()
    (act,) = (act for act in service.get("/v1/audit").json()["items"] if act["action"] == "garbage.collect")
    assert act["detail"] == {"bytes": found["bytes"], "rows": 0}


def test_others_may_neither_look_nor_remove(service: TestClient) -> None:
    token = service.post("/v1/tokens", json={"name": "ann's", "owner": "ann", "scope": "submit"}).json()["token"]
    assert service.get("/v1/garbage", headers=bearing(token)).status_code == 403
    assert service.post("/v1/garbage:collect", headers=bearing(token)).status_code == 403
    assert service.get("/v1/garbage", params={"after": "nan"}).status_code == 422


def test_the_command_shows_and_with_yes_removes(
    live: LiveService, store: Store, settings: Settings, tmp_path: Path, commands: Commands
) -> None:
    environment = {**os.environ, "RETORT_URL": live.url, "RETORT_TOKEN": live.token, "RETORT_HOME": str(tmp_path)}

    def gc(*arguments: str) -> str:
        done = commands.run("gc", *arguments, environment=environment, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert gc() == "nothing to remove\n"
    folders = finished(store, settings, store.create_study(as_submission(parse_study(SPEC)))[0].id)
    shown = gc("--after", "0").splitlines()
    assert shown[1].split() == ["last", "states", "of", "finished", "trials", str(len(folders)), "3", "kB"]
    assert shown[-1] == "3 kB to remove; nothing was changed. Remove it: retort gc --yes"
    assert all((folder / "last.pt").exists() for folder in folders)
    assert gc("--after", "0", "--yes").splitlines()[-1] == "removed, 3 kB"
    assert not any((folder / "last.pt").exists() for folder in folders)
    assert json.loads(gc("--after", "0", "--json"))["items"] == []


def test_the_disk_is_told_by_what_lies_there(tmp_path: Path) -> None:
    for name, size in (("trials/a/model.pth", 3_000_000), ("data/digits/1.png", 1_000_000), ("retort.db", 500_000), ("run/token", 10)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    used = usage(tmp_path)
    assert used.parts == {"trials": 3_000_000, "datasets": 1_000_000, "database": 500_000, "run": 10}
    line = usage_line(used)
    assert line.startswith("disk: 5 MB (trials 3 MB, datasets 1 MB, database 500 kB), ")
    assert line.endswith(" free; what can go: retort gc")
