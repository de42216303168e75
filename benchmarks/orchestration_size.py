"""What bookkeeping costs as studies grow: no Ray and no training, the graph is driven by a trainer that only reports.

    python benchmarks/orchestration_size.py [--trials 10000] [--whole 400] [--url postgresql+psycopg://...]...

One table, a column for each database; SQLite is always there. A PostgreSQL database is emptied first. Each cell says how long it took and,
in brackets, how long this process computed: on a busy machine the second is the one to compare. `worst` is the longest single step.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event, text

from orchestrator.driving.graph import Graph
from orchestrator.driving.jobs import Jobs
from orchestrator.machine import OPEN, TrialState
from orchestrator.plan import plan
from orchestrator.records.database import engine_for
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from studies.parse import parse_study
from studies.submission import Submission, as_submission
from studies.trial import Setting


def submission(trials: int, name: str) -> Submission:
    """A teacher, and `trials` - 1 students of it: the study in which most moves at once."""
    seeds = min(50, trials - 1)
    arms = -(-(trials - 1) // seeds)
    made = [{"id": f"fitnet-{number}", "distiller": "fitnet", "weight": 1.0 + number} for number in range(arms)]
    data = {
        "name": name,
        "dataset": "digits",
        "seeds": list(range(seeds)),
        "teacher": {"detector": "gfl", "backbone": "resnet34"},
        "student": {"detector": "gfl", "backbone": "resnet18"},
        "arms": made,
    }
    return as_submission(parse_study(data))


@dataclass(frozen=True)
class Took:
    """Seconds on the clock, and of this process's own computing."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{_told(self.wall)} ({_told(self.cpu)})"


def clocked(act: Callable[[], Any]) -> tuple[Any, Took]:
    """What `act` gives, and what it took."""
    cpu = time.process_time()
    wall = time.perf_counter()
    result = act()
    wall = time.perf_counter() - wall
    return result, Took(wall, time.process_time() - cpu)


class WriteLocks:
    """For how long transactions that write were open."""

    def __init__(self, engine: Engine) -> None:
        self.longest = Took(0.0, 0.0)
        self._began: tuple[float, float] | None = None
        event.listen(engine, "before_cursor_execute", self._statement)
        event.listen(engine.pool, "checkin", self._end)

    def _statement(self, connection: Connection, *_: Any) -> None:
        """The first one of a transaction that writes: SQLite begins with it, PostgreSQL locks the study."""
        if self._began is None and connection.get_execution_options().get("retort_writes"):
            self._began = time.perf_counter(), time.process_time()

    def _end(self, *_: Any) -> None:
        if self._began:
            held = Took(time.perf_counter() - self._began[0], time.process_time() - self._began[1])
            self.longest = max(self.longest, held, key=lambda took: took.wall)
        self._began = None


class Bench:
    """One database."""

    def __init__(self, url: str, folder: Path) -> None:
        if not url.startswith("sqlite"):
            engine = engine_for(url)
            with engine.begin() as connection:
                connection.execute(text("DROP SCHEMA public CASCADE"))
                connection.execute(text("CREATE SCHEMA public"))
            engine.dispose()
        self.store = Store(url)
        self.locks = WriteLocks(self.store.engine)
        self.folder = folder
        self.settings = Settings(folder, "", "", "", "", "http://127.0.0.1:1", 1)
        self.rows: dict[str, str] = {}
        (folder / "checkpoint").write_bytes(b"")

    def timed(self, name: str, act: Callable[[], Any]) -> Any:
        result, took = clocked(act)
        self.note(name, took)
        return result

    def note(self, name: str, took: Took) -> None:
        """A line of the table; shown at once on stderr."""
        self.rows[name] = str(took)
        print(f"{name}: {took}", file=sys.stderr, flush=True)

    def graph(self, study_id: int, attempt: int) -> Graph:
        setting = Setting.model_validate(self.store.study(study_id).spec)
        return Graph(self.store, study_id, attempt, setting, "digest", self.settings)

    def start(self, study_id: int) -> Graph:
        attempt = self.store.new_attempt(study_id)
        assert attempt
        self.store.start_attempt(study_id, attempt.number)
        return self.graph(study_id, attempt.number)

    def train(self, graph: Graph, count: int | None = None, timed: bool = True) -> dict[str, list[Took]]:
        """Lives of trials, one after the other, until there are none (or `count`); what every step took, by its name. timed: whether it is
        looked at, which takes time as well."""
        took: dict[str, list[Took]] = {"grant": [], "claim": [], "start": [], "epoch": [], "finish": []}

        def step(name: str, act: Callable[[], Any]) -> Any:
            result, seconds = clocked(act) if timed else (act(), Took(0, 0))
            took[name].append(seconds)
            return result

        while count is None or len(took["finish"]) < count:
            ready = self.store.ready_trials(graph.study_id, limit=1)
            step("grant", lambda: self.store.carry_out({trial.id: ["node"] for trial in ready}, []))  # noqa: B023
            graph._look_due = 0.0  # it would look a little later
            order = step("claim", graph.next)
            if order is None:
                return took
            step("start", lambda: graph.started(order.trial))  # noqa: B023
            step("epoch", lambda: graph.reported(order.trial, {"epoch": 1, "epochs": 1, "metrics": {"AP": 9.0, "loss": 1.0}}))  # noqa: B023
            step("finish", lambda: graph.reported(order.trial, {"result": self.result(order.trial)}))  # noqa: B023
        return took

    def result(self, trial: str) -> dict[str, Any]:
        checkpoint = str(self.folder / "checkpoint")
        known = {"checkpoint": checkpoint, "checkpoint_sha256": f"sha of {trial}", "best_checkpoint": checkpoint}
        return {"metrics": {"AP": 9.0}, **known, "seconds": 1.0, "environment": {}}

    # --- what is measured

    def one_study(self, trials: int) -> None:
        """Creating it, single events in it, cancelling and resuming it."""
        asked = submission(trials, "events")
        study = self.timed(f"create {trials:,}", lambda: self.store.create_study(asked))[0]
        graph = self.start(study.id)
        first = self.train(graph, 1)
        self.note(f"teacher's end, {trials - 1:,} students ready", first["finish"][0])
        took = self.train(graph, 100)
        for name, seconds in took.items():
            median = Took(statistics.median(each.wall for each in seconds), statistics.median(each.cpu for each in seconds))
            self.note(f"{name}: median", median)
        steps = [each for seconds in took.values() for each in seconds]
        self.note("worst of 500 steps", Took(max(each.wall for each in steps), max(each.cpu for each in steps)))
        self.timed("page of 200 trials", lambda: self.store.trial_page(study.id, cursor=trials // 2))
        self.timed("counts of the study", lambda: self.store.trial_counts([study.id]))
        self.store.end_attempt(study.id, 1, "killed")
        self.timed("cancel", lambda: self.store.request_cancel(study.id))
        self.timed("resume", lambda: self.store.request_resume(study.id))
        self.note("longest write lock", self.locks.longest)

    def whole_study(self, trials: int) -> None:
        """A study's whole bookkeeping."""
        study = self.store.create_study(as_forced(submission(trials, f"whole {trials}")))[0]

        def live() -> None:
            graph = self.start(study.id)
            self.train(graph, timed=False)
            self.store.conclude(study.id, 1)

        self.timed(f"a whole study of {trials:,}", live)
        counts = self.store.counts(study.id)
        assert counts[TrialState.FINISHED] == sum(counts.values()), counts
        assert not any(counts[state] for state in OPEN)

    def queue(self, studies: int) -> None:
        """Studies that wait."""
        asked = submission(2, "queued")
        for _ in range(studies):
            self.store.create_study(asked)
        jobs = Jobs(self.store, self.settings)
        self.timed(f"jobs loop, {studies:,} queued", lambda: (self.store.driven_studies(), jobs.store.queued_studies()))

    def planning(self, trials: int) -> None:
        asked = submission(trials, "plan")
        self.store.record_dataset("digits", "digest")
        self.timed(f"plan of {trials:,}", lambda: plan(asked, self.store))


def as_forced(asked: Submission) -> Submission:
    """The same, trained whether or not equal trials are finished."""
    return as_submission(asked.spec.model_copy(update={"force": True}))


def _told(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--whole", type=int, nargs="*", default=[400])
    parser.add_argument("--queued", type=int, default=1000)
    parser.add_argument("--url", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="retort-benchmark-") as folder:
        columns: dict[str, dict[str, str]] = {}
        for url in (f"sqlite:///{folder}/retort.db", *options.url):
            bench = Bench(url, Path(folder))
            bench.one_study(options.trials)
            bench.planning(1000)
            for trials in options.whole:
                bench.whole_study(trials)
            bench.queue(options.queued)
            columns["SQLite" if url.startswith("sqlite") else "PostgreSQL"] = bench.rows
            bench.store.close()
    print("| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name in next(iter(columns.values())):
        print(f"| {name} | " + " | ".join(rows[name] for rows in columns.values()) + " |")


if __name__ == "__main__":
    main()
