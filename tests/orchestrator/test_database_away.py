"""The database goes away under a driver, the loops and the service, and comes back: nothing is lost, nothing doubled, and all go on."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from sqlalchemy.exc import DBAPIError

from orchestrator import loops
from orchestrator.driving.pulse import Pulse
from orchestrator.garbage.garbage import Garbage
from orchestrator.garbage.loop import Collector
from orchestrator.garbage.policy import Policy
from orchestrator.machine import StudyState, TrialState
from orchestrator.records.errors import Superseded
from orchestrator.records.store import Store
from orchestrator.relaying.client import mlflow_client
from orchestrator.relaying.reaper import Reaper
from orchestrator.relaying.relay import Relay
from orchestrator.schedules.loop import Cron
from orchestrator.settings import Settings
from orchestrator.webhooks.loop import Telling
from tests import postgresql
from tests.api.conftest import LiveService
from tests.orchestrator.conftest import Driven, a_study, graph_of, train_next

AWAY_SECONDS = 3.0  # drivers have patience for fifty times as long
WAIT_SECONDS = 120.0  # for what must come


@dataclass
class Outage:
    """A database, how it goes away, and how it comes back. answers: the statuses of a request meanwhile; none where it waits."""

    url: str
    begin: Callable[[], None]
    end: Callable[[], None]
    answers: set[int]


def locked(folder: Path) -> Outage:
    """SQLite's write lock is somebody else's."""
    other = sqlite3.connect(folder / "retort.db", isolation_level=None, timeout=60)

    def begin() -> None:
        other.execute("BEGIN IMMEDIATE")

    def end() -> None:
        other.close()

    return Outage(f"sqlite:///{folder}/retort.db", begin, end, {200})


@pytest.fixture(params=["locked", *(["stopped", "frozen"] if postgresql.binaries() else [])])
def outage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outage]:
    if request.param == "locked":
        yield locked(tmp_path)
        return
    with postgresql.running() as server:
        if request.param == "stopped":
            yield Outage(server.url, server.stop, server.start, {503})
        else:
            yield Outage(server.url, server.freeze, server.thaw, set())


def test_all_go_on_where_the_database_comes_back(outage: Outage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow, which has no server here, puts its files
    mlflow = f"sqlite:///{tmp_path}/mlflow.db"
    settings = Settings(tmp_path, outage.url, mlflow, "", "", "", 1)
    store, client = Store(outage.url, patience=WAIT_SECONDS), mlflow_client(mlflow)
    driven = Driven.start(store, tmp_path, a_study(seeds=[0, 1, 2]))
    service = LiveService(settings)
    service.start()
    with looping(settings, client, driven):
        under_way, driver = driving(driven)
        assert under_way.wait(WAIT_SECONDS)
        outage.begin()
        answers = asked_for(service, bool(outage.answers))
        outage.end()
        driver.join(WAIT_SECONDS)
        assert not driver.is_alive()
        assert store.study(driven.id).state == StudyState.FINISHED
        eventually(lambda: not store.outbox())
        eventually(lambda: all(not beat.trouble for beat in store.heartbeats()))
        assert asked(service) == 200
    service.stop()
    assert answers == outage.answers
    trials = store.trials(driven.id)
    assert {trial.state for trial in trials} == {TrialState.FINISHED}
    assert [trial.losses for trial in trials] == [0] * len(trials)
    assert sorted((point.trial_id, point.epoch) for point in store.points(driven.id)) == [(trial.id, 1) for trial in trials]
    assert told_to(client) == {trial.title: ("FINISHED", 1) for trial in trials} | {f"a try #{driven.id}": ("FINISHED", 0)}
    store.close()


@contextlib.contextmanager
def looping(settings: Settings, client: MlflowClient, driven: Driven) -> Iterator[None]:
    """The loops of the service but the one that asks Ray, and the heartbeat of the study's driver."""
    store, stop = Store(settings.database), threading.Event()
    running: list[loops.Loop] = [
        Relay(store, client, settings, show_seconds=0.0),
        Reaper(store, client),
        Cron(store),
        Telling(store),
        Collector(Garbage(store, settings, Policy())),
    ]
    pulse = Pulse(driven.store, driven.id, driven.attempt)

    def beating() -> None:
        while not stop.wait(0.2):
            with contextlib.suppress(DBAPIError, Superseded):  # the driver's own prints it
                pulse.pass_on()

    threads = [threading.Thread(target=loops.run, args=(loop, store, stop)) for loop in running] + [threading.Thread(target=beating)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(WAIT_SECONDS)
        store.close()


def driving(driven: Driven) -> tuple[threading.Event, threading.Thread]:
    """A driver in a thread that trains one trial after the other, and whether it has trained a few."""
    under_way = threading.Event()

    def drive() -> None:
        graph = graph_of(driven, a_study(seeds=[0, 1, 2]))
        while not graph.settle():
            train_next(graph, driven, graph.orders.popleft() if graph.orders else None)
            if graph.open < 6:
                under_way.set()
            time.sleep(0.2)
        driven.store.conclude(driven.id, driven.attempt)

    thread = threading.Thread(target=drive)
    thread.start()
    return under_way, thread


def asked(service: LiveService) -> int:
    headers = {"Authorization": f"Bearer {service.token}"}
    return httpx.get(f"{service.url}/v1/studies", headers=headers, timeout=1.0).status_code


def asked_for(service: LiveService, answers: bool) -> set[int]:
    """What the service answers while the database is away; a request that waits is given up after a second. answers: whether one does."""
    found: set[int] = set()
    until = time.monotonic() + AWAY_SECONDS
    while time.monotonic() < until or (answers and not found and time.monotonic() < until + WAIT_SECONDS):
        with contextlib.suppress(httpx.ReadTimeout):
            found.add(asked(service))
        time.sleep(0.1)
    return found


def eventually(true: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < until
        time.sleep(0.1)


def told_to(client: MlflowClient) -> dict[str, tuple[str, int]]:
    """MLflow's runs by name: status, and how many points of AP it has."""
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {
        run.info.run_name: (run.info.status, len(client.get_metric_history(run.info.run_id, "AP")) if "AP" in run.data.metrics else 0)
        for run in runs
    }
