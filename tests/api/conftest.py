"""A service on a fresh database: in process for single answers, on a real port where a connection is the point."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.access.settings import AccessSettings, access_settings
from api.app import configure, create_app
from orchestrator.records.leases import Known
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from studies.expand import expand
from studies.parse import parse_study
from studies.spec import StudySpec
from studies.trial import TeacherRef
from tests.api.commands import Commands

ADDRESS = "http://127.0.0.1:8080"
SPEC: dict[str, Any] = {
    "name": "Does FitNet help?",
    "dataset": "digits",
    "schedule": {"epochs": 2},
    "teacher": {"detector": "gfl", "backbone": "resnet34"},
    "student": {"detector": "gfl", "backbone": "resnet18"},
    "arms": [{"id": "student"}, {"id": "fitnet", "distiller": "fitnet"}],
}


@pytest.fixture
def settings(tmp_path: Path, migrated: Path) -> Settings:
    shutil.copy(migrated, tmp_path / "retort.db")
    return Settings(
        home=tmp_path,
        database=f"sqlite:///{tmp_path}/retort.db",
        mlflow="http://127.0.0.1:1",
        mlflow_ui="http://mlflow.example",
        ray="auto",
        ray_jobs="http://127.0.0.1:1",  # nothing answers there
        concurrent_studies=1,
    )


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """Runs the `retort` command."""
    made = Commands()
    yield made
    made.close()


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = Store(settings.database)
    yield store
    store.close()


def operators_token(settings: Settings) -> str:
    """The token that a service makes for its operator."""
    return (settings.home / "token").read_text().strip()


def bearing(token: str) -> dict[str, str]:
    """The header of a request with a token."""
    return {"Authorization": f"Bearer {token}"}


_idle: list[FastAPI] = []


@contextmanager
def an_app(settings: Settings) -> Iterator[FastAPI]:
    """The service on `settings`. One test after the other uses the same application, whose many routes take most of a second to make."""
    reached = access_settings(settings.home)
    if reached != AccessSettings(reached.token_file):
        yield create_app(settings)
        return
    app = _idle.pop() if _idle else create_app(settings)
    configure(app, settings, reached)
    yield app
    _idle.append(app)


@pytest.fixture
def service(settings: Settings) -> Iterator[TestClient]:
    """A service, asked with its operator's token."""
    with an_app(settings) as app, TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as client:
        client.headers.update(bearing(operators_token(settings)))
        yield client


As = Callable[..., dict[str, str]]


@pytest.fixture
def as_(service: TestClient) -> As:
    """The header of a new token of a scope and an owner."""

    def header(scope: str, owner: str = "ann", **fields: Any) -> dict[str, str]:
        made = service.post("/v1/tokens", json={"name": f"{owner}'s", "owner": owner, "scope": scope, **fields})
        assert made.status_code == 201, made.text
        return bearing(made.json()["token"])

    return header


class LiveService:
    """The service on a port of its own, which can be stopped and started again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._app = ExitStack()
        app = self._app.enter_context(an_app(self._settings))
        config = uvicorn.Config(app, port=self.port, log_level="error", timeout_graceful_shutdown=0)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        self.token = operators_token(self._settings)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._app.close()


@pytest.fixture
def live(settings: Settings) -> Iterator[LiveService]:
    service = LiveService(settings)
    service.start()
    yield service
    service.stop()


class Driver:
    """Does to a stored study what its driver would: one attempt, one trial after the other."""

    def __init__(self, store: Store, study_id: int) -> None:
        self.store, self.study_id = store, study_id
        self.planned = {trial.id: trial for trial in expand(StudySpec.model_validate(store.study(study_id).spec)).trials}
        self.fences: dict[str, int] = {}

    def start(self) -> None:
        attempt = self.store.new_attempt(self.study_id)
        assert attempt is not None
        self.attempt = attempt.number
        self.store.start_attempt(self.study_id, self.attempt)

    def begin(self, name: str) -> None:
        study = parse_study(self.store.study(self.study_id).spec)
        planned = self.planned[name]
        teacher = (
            TeacherRef(network=self.planned[planned.teacher].network, checkpoint="/t.pth", sha256="0" * 64) if planned.teacher else None
        )
        spec = planned.resolve(study, teacher)
        key = spec.key("digest", "code")
        trial = self.store.trial(self.study_id, name)
        assert trial
        self.store.carry_out({trial.id: ["a"]}, [])
        claimed = self.store.claim(self.study_id, self.attempt, name, Known(spec, key, key, "digest"), {}, reuse=False)
        assert claimed.fence is not None
        self.fences[name] = claimed.fence
        self.store.start_trial(self.study_id, self.attempt, name, claimed.fence)

    def epoch(self, name: str, epoch: int, ap: float) -> None:
        metrics = {"AP": ap, "AP50": ap, "AP75": ap, "epoch_seconds": 10.0}
        self.store.record_epoch(self.study_id, self.attempt, name, epoch, 2, metrics, self.fences[name])

    def finish(self, name: str, ap: float) -> None:
        self.store.finish_trial(
            self.study_id,
            self.attempt,
            name,
            metrics={"AP": ap, "AP50": ap, "AP75": ap},
            checkpoint="/model.pth",
            checkpoint_sha256="0" * 64,
            best_checkpoint="/best.pth",
            seconds=20.0,
            environment={},
            fence=self.fences[name],
        )

    def train(self, name: str, ap: float) -> None:
        self.begin(name)
        for epoch in (1, 2):
            self.epoch(name, epoch, ap * epoch / 2)
        self.finish(name, ap)

    def train_all(self) -> None:
        """Every trial to its end, and the study with them."""
        self.start()
        for rank, name in enumerate(self.planned):
            self.train(name, 40.0 + rank)
        self.store.conclude(self.study_id, self.attempt)
