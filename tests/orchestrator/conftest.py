"""Stores to test against, a clock that stands still, and small studies."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from orchestrator.driving.graph import Graph
from orchestrator.driving.trials.order import Order
from orchestrator.records.database import engine_for
from orchestrator.records.leases import Claim, Known
from orchestrator.records.schema import Trial
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from studies.parse import parse_study
from studies.spec import StudySpec
from studies.submission import as_submission
from studies.trial import FailureKind, TrialSpec
from tests import postgresql


@dataclass
class Clock:
    """Seconds since 1970, moved by hand."""

    seconds: float = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


BACKENDS = ["sqlite", *(["postgresql"] if postgresql.binaries() else [])]


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """URL of a PostgreSQL server for these tests alone."""
    with postgresql.server() as address:
        yield address


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, of each kind that there is here."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'retort.db'}"
    address: str = request.getfixturevalue("postgresql_server")
    engine = engine_for(address)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return address


@pytest.fixture
def store(url: str, clock: Clock, migrated: Path) -> Iterator[Store]:
    if url.startswith("sqlite"):
        shutil.copy(migrated, url.removeprefix("sqlite:///"))
    opened = Store(url, clock)
    yield opened
    opened.close()


def a_study(**changes: Any) -> StudySpec:
    """A teacher, a baseline and a FitNet student, one seed."""
    data = {
        "name": "a try",
        "dataset": "digits",
        "teacher": {"detector": "gfl", "backbone": "resnet34"},
        "student": {"detector": "gfl", "backbone": "resnet18"},
        "arms": [{"id": "student"}, {"id": "fitnet", "distiller": "fitnet"}],
    }
    return parse_study(data | changes)


TEACHER, ALONE, PUPIL = "teacher/gfl-resnet34/seed-0", "student/seed-0", "fitnet/seed-0"


@dataclass
class Driven:
    """A study under attempt 1, with the moves of a driver in short."""

    store: Store
    id: int
    folder: Path
    attempt: int = 1
    fences: dict[str, int] = field(default_factory=dict)  # of the leases it holds

    @staticmethod
    def start(store: Store, folder: Path, spec: StudySpec | None = None) -> "Driven":
        study, _ = store.create_study(as_submission(spec or a_study()))
        attempt = store.new_attempt(study.id)
        assert attempt
        store.start_attempt(study.id, attempt.number)
        return Driven(store, study.id, folder, attempt.number)

    def trial(self, name: str) -> Trial:
        return next(trial for trial in self.store.trials(self.id) if trial.name == name)

    def claim(self, name: str, key: str | None = None, reuse: bool = True) -> Claim:
        """With devices for all its trials."""
        grant_all(self.store, self.id)
        return self.claim_granted(name, key, reuse)

    def claim_granted(self, name: str, key: str | None = None, reuse: bool = True) -> Claim:
        claimed = self.store.claim(self.id, self.attempt, name, known(name, key), {"git_sha": "abc"}, reuse)
        if claimed.fence is not None:
            self.fences[name] = claimed.fence
        return claimed.claim

    def begin(self, name: str, key: str | None = None) -> None:
        assert self.claim(name, key) == Claim.HELD
        self.start_trial(name)

    def begin_granted(self, name: str) -> None:
        assert self.claim_granted(name) == Claim.HELD
        self.start_trial(name)

    def know(self, name: str, key: str) -> None:
        """Its driver has looked at a trial."""
        self.store.know_trials(self.id, self.attempt, {name: known(name, key)})

    def start_trial(self, name: str) -> None:
        self.store.start_trial(self.id, self.attempt, name, self.fences[name])

    def epoch(self, name: str, epoch: int, **metrics: float) -> bool:
        fence = self.fences.get(name, 0)
        return self.store.record_epoch(self.id, self.attempt, name, epoch, 2, metrics or {"AP": 10.0 * epoch}, fence)

    def fail(self, name: str, failure: FailureKind, reason: str) -> None:
        self.store.fail_trial(self.id, self.attempt, name, failure, reason, self.fences.get(name))

    def finish(self, name: str, **metrics: float) -> None:
        checkpoint = self.folder / f"{self.id}-{name.replace('/', '-')}.pth"
        checkpoint.write_bytes(b"weights")
        self.store.finish_trial(
            self.id,
            self.attempt,
            name,
            fence=self.fences.get(name, 0),
            metrics=metrics or {"AP": 20.0},
            checkpoint=str(checkpoint),
            checkpoint_sha256="c0ffee",
            best_checkpoint=str(checkpoint),
            seconds=30.0,
            environment={"torch": "2"},
        )

    def train(self, name: str, key: str | None = None, **metrics: float) -> None:
        """All of a trial's life."""
        self.begin(name, key)
        self.epoch(name, 1)
        self.epoch(name, 2)
        self.finish(name, **metrics)


def trial_spec() -> TrialSpec:
    return TrialSpec.model_validate(
        {
            "dataset": "digits",
            "scale": "nano",
            "network": {"detector": "gfl", "backbone": "resnet18"},
            "schedule": {"recipe": "nano", "epochs": 2, "batch_size": 4, "lr": 2e-3, "reference_batch": 4},
            "seed": 0,
        }
    )


def known(name: str, key: str | None = None) -> Known:
    """What a trial is to train, as far as the store looks at it."""
    key = key or f"key of {name}"
    return Known(trial_spec(), key, key, "digest")


@pytest.fixture
def driven(store: Store, tmp_path: Path) -> Driven:
    """A study whose driver has just come up."""
    return Driven.start(store, tmp_path)


def graph_of(driven: Driven, spec: StudySpec, digest: str = "digest") -> Graph:
    """The graph of a study as its driver holds it."""
    settings = Settings(driven.folder, "", "", "", "", "", 1)
    return Graph(driven.store, driven.id, driven.attempt, spec, digest, settings)


def grant_all(store: Store, study_id: int) -> None:
    """Devices for every trial of a study that is ready."""
    held = {trial.id for trial in store.all_granted()}
    ready = [trial for trial in store.ready_trials(study_id) if trial.id not in held]
    store.carry_out({trial.id: ["a"] for trial in ready}, [])


def next_of(graph: Graph) -> Order | None:
    """The next trial of a study that has all the devices it can use."""
    grant_all(graph.store, graph.study_id)
    graph._look_due = 0.0
    return graph.next()


def train_next(graph: Graph, driven: Driven, order: Order | None = None, environment: dict[str, str] | None = None) -> Order:
    """One trial's life as the driver sees it, of `order` or of the next there is; gives its order."""
    order = order or next_of(graph)
    assert order
    graph.started(order.trial)
    graph.reported(order.trial, {"epoch": 1, "epochs": 1, "metrics": {"AP": 9.0}})
    checkpoint = driven.folder / f"{driven.id}-{order.trial.replace('/', '-')}.pth"
    checkpoint.write_bytes(b"")
    result = {
        "metrics": {"AP": 9.0},
        "checkpoint": str(checkpoint),
        "checkpoint_sha256": f"sha of {order.trial}",
        "best_checkpoint": str(checkpoint),
        "seconds": 40.0 if order.trial == PUPIL else 10.0,
        "environment": environment or {},
    }
    graph.reported(order.trial, {"result": result})
    return order


def trained(store: Store, folder: Path, spec: StudySpec, digest: str = "digest") -> Driven:
    """A study that ran to its end."""
    driven = Driven.start(store, folder, spec)
    graph = graph_of(driven, spec, digest)
    while not graph.settle():
        train_next(graph, driven, graph.orders.popleft() if graph.orders else None)
    store.conclude(driven.id, driven.attempt)
    return driven
