"""A whole stack (Ray, MLflow, service) for the tests that kill parts of it, and an undisturbed study to compare with."""

import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from api.embedded import supervision
from api.embedded.stack import LOOPBACK, PORTS, Stack
from orchestrator.records.schema import Event, Study
from orchestrator.records.store import Store
from orchestrator.reporting.build import build
from orchestrator.reporting.timeline import Stay, stays
from studies.parse import parse_study
from studies.submission import as_submission

EPOCHS = 3
PATIENCE = 600.0  # for a study of a few steps on a busy machine
# Short enough to be waited for. The watchdog's own is long: what stands still here is to be found by those that miss it.
DEADLINES = {"RETORT_DEADLINE_SILENCE": "30", "RETORT_DEADLINE_DRIVER": "20", "RETORT_DEADLINE_STOP": "15", "RETORT_STILL_SECONDS": "3600"}
TIMES = ("images_per_second", "epoch_seconds", "FPS")  # metrics of the machine, not of the training


@dataclass
class Bench:
    """A running stack and what a test does with it. patience: seconds before something is thought to hang."""

    stack: Stack
    store: Store
    patience: float = PATIENCE

    def submit(self, name: str, owner: str | None = None, priority: int = 0, **changes: Any) -> int:
        """Four trials: teacher, baseline, two students; a few steps, three epochs."""
        spec = {
            "name": name,
            "dataset": "digits",
            "scale": "nano",
            "schedule": {"recipe": "smoke", "epochs": EPOCHS, "batch_size": 4, "max_iterations": 3},
            "teacher": {"detector": "gfl", "backbone": "resnet18"},
            "student": {"detector": "gfl", "backbone": "resnet18"},
            "arms": [{"id": "student"}, {"id": "fitnet", "distiller": "fitnet"}, {"id": "ld", "distiller": "ld"}],
            "metrics": ["AP", "AP50"],
        }
        return self.store.create_study(as_submission(parse_study(spec | changes)), owner=owner, priority=priority)[0].id

    def await_event(self, study_id: int, wanted: Callable[[Event], bool]) -> Event:
        """The first event that is wanted, seen within a moment of its happening."""
        found: list[Event] = []

        def look() -> bool:
            found[:] = [event for event in self.store.events(study_id) if wanted(event)]
            return bool(found)

        self.await_that(study_id, look)
        return found[0]

    def await_end(self, study_id: int) -> Study:
        self.await_that(study_id, lambda: self.store.study(study_id).state.final)
        return self.store.study(study_id)

    def await_that(self, study_id: int, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.patience
        while not there():
            if time.monotonic() > deadline:
                told = "\n".join(f"{event.kind} {event.data}" for event in self.store.events(study_id))
                pytest.fail(f"study {study_id} hangs:\n{told}")
            time.sleep(0.05)

    def processes(self, *words: str) -> list[psutil.Process]:
        """Processes of this stack whose command line holds all the words."""
        found = []
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
                if all(word in line for word in words) and process.environ().get("RETORT_STACK") == self.stack.id:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def numbers(self, study_id: int) -> dict[str, Any]:
        """All that training decides: every trial's points and final metrics but the timings, and the checkpoint's digest."""
        points: dict[int, list[tuple[int, str, float]]] = {}
        for point in self.store.points(study_id):
            if point.name not in TIMES:
                points.setdefault(point.trial_id, []).append((point.epoch, point.name, point.value))
        return {
            t.name: (points[t.id], {k: v for k, v in (t.metrics or {}).items() if k not in TIMES}, t.checkpoint_sha256)
            for t in self.store.trials(study_id)
        }

    def table(self, study_id: int) -> list[tuple[str, Any]]:
        """The rows of its table, each with what it measured."""
        built = build(self.store.study(study_id), self.store.presentation(study_id), self.store.trials(study_id))
        return [(row.id, {metric: cell for metric, cell in row.cells.items() if metric not in TIMES}) for row in built.rows]

    def stays(self, study_id: int) -> list[Stay]:
        """When its trials had devices."""
        return stays(self.store.events(study_id, limit=100_000))

    def await_mlflow(self, study_id: int) -> dict[str, Any]:
        """What MLflow shows of a study once the outbox is empty: (status, epochs of each metric) by run name."""
        self.await_that(study_id, lambda: not self.store.outbox())
        client = MlflowClient(self.stack.url("mlflow"))
        experiment = client.get_experiment_by_name(self.store.study(study_id).name)
        assert experiment
        runs = client.search_runs([experiment.experiment_id])
        assert len({run.info.run_name for run in runs}) == len(runs)
        return {
            run.info.run_name: (
                run.info.status,
                {key: [point.step for point in client.get_metric_history(run.info.run_id, key)] for key in run.data.metrics},
            )
            for run in runs
        }

    def hold_against(self, study_id: int, undisturbed: int, trials: int = 4) -> None:
        """The study ended as if nothing had happened, in the database and in MLflow."""
        assert self.await_end(study_id).state.value == "finished"
        assert self.numbers(study_id) == self.numbers(undisturbed)
        shown = self.await_mlflow(study_id)
        assert len(shown) == 1 + trials
        assert {status for status, _ in shown.values()} == {"FINISHED"}
        parent = f"{self.store.study(study_id).name} #{study_id}"
        for name, (_, steps) in shown.items():
            # Some metrics are measured once, after the last epoch; signs of life, as a slow machine gives them, are told by the step.
            by_epoch = {key: epochs for key, epochs in steps.items() if not key.startswith("step/")}
            odd = {key: epochs for key, epochs in by_epoch.items() if epochs not in (list(range(1, EPOCHS + 1)), [EPOCHS])}
            assert name == parent or not odd, f"{name}: {odd}"
            assert name == parent or len(steps["loss"]) == EPOCHS


def free_ports() -> dict[str, int | None]:
    """Ports of its own for a stack whose parts are killed: a default one would be anybody's as long as its part is away."""
    with ExitStack() as taken:
        probes = {name: taken.enter_context(socket.socket()) for name in PORTS}
        for probe in probes.values():
            probe.bind((LOOPBACK, 0))
        return {name: probe.getsockname()[1] for name, probe in probes.items()}


@contextmanager
def running(home: Path, data: Path, cpus: int, settings: dict[str, str]) -> Iterator[Bench]:
    """A stack with a state folder of its own. data: prepared datasets. settings: variables of its environment."""
    shutil.copytree(data, home / "data")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in settings.items():
            environment.setenv(name, value)
        stack, _ = supervision.up(home, free_ports(), auto=True, cpus=cpus, say=print)
    store = Store(settings.get("RETORT_DATABASE_URL", f"sqlite:///{home}/retort.db"))
    try:
        yield Bench(stack, store)
    finally:
        store.close()
        supervision.down(home, say=print)


@pytest.fixture(scope="package")
def bench(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running(tmp_path_factory.mktemp("faults") / "home", data, 2, DEADLINES) as bench:
        yield bench


def first_epoch(event: Event) -> bool:
    """Whether an event is the end of a trial's first epoch."""
    return event.kind == "epoch" and bool(event.data["epoch"] == 1)


@pytest.fixture(scope="package")
def undisturbed(bench: Bench) -> int:
    """A study that nobody disturbed."""
    study_id = bench.submit("undisturbed")
    assert bench.await_end(study_id).state.value == "finished"
    assert len(bench.store.attempts(study_id)) == 1
    bench.hold_against(study_id, study_id)
    return study_id
