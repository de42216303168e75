"""What a person is told in each fault, and how the study comes out: `python -m tests.faults.told [--away 120] [--mlflow-away 3600]`.

A real stack trains one small study after the other. In each something is stopped, killed, locked or taken away; after a while the program
prints what `retort status` and `retort show` say, and the last lines of `retort logs`. Each study must end with the numbers of an
undisturbed one and with MLflow's runs complete. With --mlflow-away the last one trains, and is waited for, while MLflow is away so long.

SQLite's database is locked by somebody. Another one goes away by a command and comes back by a second:

    python -m tests.faults.told --only database --url postgresql+psycopg://... --stop 'pg_ctl stop ...' --start 'pg_ctl start ...'
"""

import argparse
import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from api.embedded.stack import LOOPBACK
from tests.faults.conftest import Bench, first_epoch, running

LONGER: dict[str, Any] = {"schedule": {"recipe": "smoke", "epochs": 3, "batch_size": 4, "max_iterations": 12}}
Fault = Callable[[Bench, int], contextlib.AbstractContextManager[None]]


def told(bench: Bench, *words: str, lines: int = 40) -> None:
    """Prints what a command says, as a person sees it."""
    environment = os.environ | {"RETORT_HOME": bench.stack.home, "COLUMNS": "160"}
    command = [sys.executable, "-m", "api.command.cli", *words]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        said = f"{done.stdout}{done.stderr}".rstrip().splitlines()[-lines:]
    except subprocess.TimeoutExpired:
        said = ["(no answer within a minute)"]
    print("\n".join([f"  $ retort {' '.join(words)}", *(f"  {line}" for line in said)]), flush=True)


def hit(signal_number: int, *words: str, with_study: bool = False) -> Fault:
    """A signal to the first process whose command line holds all the words."""

    @contextlib.contextmanager
    def fault(bench: Bench, study: int) -> Iterator[None]:
        wanted = (*words, f" {study} ") if with_study else words
        bench.await_that(study, lambda: bool(bench.processes(*wanted)))
        bench.processes(*wanted)[0].send_signal(signal_number)
        yield

    return fault


def locked(seconds: float) -> Fault:
    """Somebody keeps SQLite's write lock."""

    @contextlib.contextmanager
    def fault(bench: Bench, study: int) -> Iterator[None]:
        connection = sqlite3.connect(Path(bench.stack.home) / "retort.db", timeout=60, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        try:
            yield
            time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        finally:
            connection.execute("ROLLBACK")
            connection.close()

    return fault


@contextlib.contextmanager
def without_mlflow(bench: Bench, study: int) -> Iterator[None]:
    """MLflow's processes are killed and its port is somebody else's, who never answers."""
    port = int(bench.stack.url("mlflow").rpartition(":")[2])
    with socket.socket() as somebody:
        somebody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            for process in bench.processes("mlflow"):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            with contextlib.suppress(OSError):
                somebody.bind((LOOPBACK, port))
                break
        somebody.listen()
        yield


def gone(seconds: float, stop: str, start: str) -> Fault:
    """The database's server is stopped by a command, and started by another."""

    @contextlib.contextmanager
    def fault(bench: Bench, study: int) -> Iterator[None]:
        subprocess.run(stop, shell=True, check=True)
        began = time.monotonic()
        try:
            yield
            time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        finally:
            subprocess.run(start, shell=True, check=True)

    return fault


def faults(database: Fault) -> dict[str, tuple[Fault, float]]:
    """Title -> the fault, and the seconds after which a person looks."""
    stop, kill = signal.SIGSTOP, signal.SIGKILL
    return {
        "a trial is stopped": (hit(stop, "ray::ImplicitFunc"), 15),
        "the driver is stopped": (hit(stop, "orchestrator.driving.driver", with_study=True), 40),
        "the orchestrator is stopped": (hit(stop, "orchestrator.service"), 25),
        "MLflow is stopped": (hit(stop, "mlflow_server"), 25),
        "the service is killed": (hit(kill, "api.app"), 1),
        "Ray's raylet is killed": (hit(kill, "raylet/raylet"), 8),
        "Ray's head is killed": (hit(kill, "orchestrator.cluster.ray_head"), 5),
        "the supervisor is killed": (hit(kill, "supervisord"), 3),
        "the database is away": (database, 45),
    }


def disturbed(bench: Bench, title: str, fault: Fault, wait: float, undisturbed: int) -> None:
    """One fault in the middle of a study, what is told, and what becomes of it."""
    print(f"\n## {title}, {time.strftime('%H:%M:%S')}", flush=True)
    study = bench.submit(title, force=True, **LONGER)
    bench.await_event(study, first_epoch)
    began = time.monotonic()
    with fault(bench, study):
        time.sleep(wait)
        told(bench, "status")
        told(bench, "show", str(study), lines=12)
        told(bench, "logs", str(study), lines=6)
    bench.hold_against(study, undisturbed)
    attempts = [attempt.outcome for attempt in bench.store.attempts(study)]
    losses = sum(trial.losses for trial in bench.store.trials(study))
    print(f"  as undisturbed, {time.monotonic() - began:.0f} s after it; attempts: {attempts}; losses of trials: {losses}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--away", type=float, default=120.0, help="seconds that the database is locked, or away")
    parser.add_argument("--url", help="of an empty database that is no SQLite file")
    parser.add_argument("--stop", help="command that takes it away")
    parser.add_argument("--start", help="command that brings it back")
    parser.add_argument("--mlflow-away", type=float, default=0.0, help="seconds that MLflow is away while a last study trains")
    parser.add_argument("--only", help="the faults whose titles hold these words")
    parser.add_argument("--data", type=Path, help="folder with the digits prepared; they are made anew without")
    options = parser.parse_args()
    from workers.datasets import prepare

    signal.signal(signal.SIGTERM, lambda *_: sys.exit("interrupted"))  # the stack goes down with this program
    with tempfile.TemporaryDirectory(prefix="retort-told-") as folder:
        data = options.data or Path(folder, "data")
        prepare("digits", data)
        database = gone(options.away, options.stop, options.start) if options.url else locked(options.away)
        settings = {"RETORT_DATABASE_URL": options.url} if options.url else {}
        with running(Path(folder, "home"), data, 2, settings) as bench:
            bench.patience = 1200.0 + options.mlflow_away
            undisturbed = bench.submit("undisturbed", **LONGER)
            bench.hold_against(undisturbed, undisturbed)
            for title, (fault, wait) in faults(database).items():
                if not options.only or options.only in title:
                    disturbed(bench, title, fault, wait, undisturbed)
            if options.mlflow_away:
                disturbed(bench, "MLflow is away", without_mlflow, options.mlflow_away, undisturbed)
    print("\nall held", flush=True)


if __name__ == "__main__":
    main()
