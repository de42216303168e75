"""What one process of the cluster does at a time; of several orchestrators one leads, and when it goes another takes over."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from orchestrator import service
from orchestrator.records import locks
from orchestrator.records.database import engine_for
from orchestrator.records.locks import Lock, alone
from orchestrator.records.store import Store
from tests.orchestrator.conftest import BACKENDS


def test_one_has_a_lock_until_it_leaves_it(url: str) -> None:
    first, second = (Lock(engine_for(url), "leader") for _ in range(2))
    assert first.take()
    assert not second.take()
    assert first.holds()
    first.leave()
    assert second.take()
    assert not first.holds()
    second.leave()


def test_locks_of_other_names_are_other_locks(url: str) -> None:
    digits, coco = (Lock(engine_for(url), f"dataset-{name}") for name in ("digits", "coco"))
    assert digits.take()
    assert coco.take()
    digits.leave()
    coco.leave()


def test_who_comes_second_waits_until_the_first_is_done(url: str) -> None:
    first, waited = Lock(engine_for(url), "dataset-digits"), list[int]()
    assert first.take()

    def waiting() -> None:
        waited.append(1)
        if len(waited) == 3:
            first.leave()

    with alone(engine_for(url), "dataset-digits", waiting, seconds=0.01):
        assert len(waited) == 3
        assert not first.take()
    assert first.take()
    first.leave()


@pytest.mark.parametrize("url", BACKENDS[1:], indirect=True)
def test_who_lost_its_session_no_longer_has_its_lock(url: str) -> None:
    leader, other = (Lock(engine_for(url), "leader") for _ in range(2))
    assert leader.take()
    with engine_for(url).connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))
    assert not leader.holds()
    assert other.take()
    other.leave()


@pytest.mark.parametrize("url", BACKENDS[1:], indirect=True)
def test_who_stands_still_no_longer_has_its_lock(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SILENCE_SECONDS", 0.1)
    leader, other = (Lock(engine_for(url), "leader") for _ in range(2))
    assert leader.take()
    assert leader.holds()
    while not other.take():
        time.sleep(0.01)
    assert not leader.holds()
    other.leave()


def test_a_leader_that_vanishes_or_stands_still_is_followed_within_thirty_seconds() -> None:
    settings = locks._VANISHED
    idle = settings["tcp_keepalives_idle"] + settings["tcp_keepalives_interval"] * settings["tcp_keepalives_count"]
    assert max(idle, settings["tcp_user_timeout"] / 1000, locks.SILENCE_SECONDS) + service.ROUND_SECONDS < 30
    assert service.ROUND_SECONDS < locks.SILENCE_SECONDS / 4


@pytest.fixture
def orchestrators(url: str, tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two of them on one database, started one after the other, with nothing else there."""
    Store(url).close()
    nowhere = dict.fromkeys(("RETORT_MLFLOW", "RETORT_RAY_JOBS"), "http://127.0.0.1:1")
    running = []
    for _ in range(2):
        alive = tmp_path / f"alive-{len(running)}"
        environment = {**os.environ, **nowhere, "RETORT_HOME": str(tmp_path), "RETORT_DATABASE_URL": url, "RETORT_ALIVE_FILE": str(alive)}
        command = [sys.executable, "-m", "orchestrator.service"]
        running.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
        await_line(running[-1], "orchestrator leads")
    yield running
    for process in running:
        process.kill()
        process.communicate()


def await_line(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"it ended without saying {words!r}")


def test_when_the_leader_is_killed_the_other_takes_over(orchestrators: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    leader, other = orchestrators
    assert (tmp_path / "alive-1").exists()
    leader.send_signal(signal.SIGKILL)
    await_line(other, "this orchestrator leads")
