"""Random SIGKILL and SIGSTOP over every process of a real stack while studies run: `python -m tests.faults.chaos --kills 100 --seed N`.

What must hold whatever is hit: every study finishes, its numbers are those of an undisturbed one to the last digit, MLflow has one run
for the study and one for each trial, all FINISHED with each epoch once, nothing burns CPU when all is done, and `down` leaves nothing.
Of the three that watch over the others (the supervisor and two watchdogs) one is hit at a time: with all of them gone nobody is left, and
`retort up` is what helps.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from api.embedded.processes import processes_of
from api.embedded.stack import Stack
from tests.faults.conftest import PATIENCE, Bench, running

# What a command line says -> what the process is. The first that fits.
KINDS = {
    "supervisord": "supervisord",
    "api.embedded.watchdog": "watchdog",
    "mlflow_server": "MLflow",
    "orchestrator.cluster.ray_head": "Ray's launcher",
    "gcs_server": "Ray's gcs",
    "raylet/raylet": "raylet",
    "dashboard.py": "Ray's dashboard",
    "multiprocessing": "a child of Ray's dashboard",
    "ray::dashboard": "a child of Ray's dashboard",
    "ray.util.client": "Ray's client server",
    "ray::DashboardAgent": "Ray's dashboard agent",
    "ray::RuntimeEnvAgent": "Ray's runtime environment agent",
    "ray::JobSupervisor": "Ray's job supervisor",
    "while kill -s 0": "the shell that ends a driver with Ray's job supervisor",
    "orchestrator.driving.driver standby-": "the driver that waits",
    "orchestrator.driving.driver": "a driver",
    "ray::ImplicitFunc": "a trial",
    "ray::RayTrainWorker": "one of a trial's processes",
    "ray::TrainController": "the controller of a trial's processes",
    "ray::": "an idle worker of Ray",
    "api.app": "the API",
    "orchestrator.service": "the orchestrator",
}
GUARDS = {"supervisord": 1, "watchdog": 2}  # that watch over the others, and over each other
IDLE_SECONDS, IDLE_SHARE = 20.0, 0.25  # after all is done no process may take more than this share of a core for so long
STUDIES: list[dict[str, Any]] = [  # random studies: one of these each, at a seed of its own
    {},
    {"arms": [{"id": "student"}, {"id": "ld", "distiller": "ld"}]},
    {"arms": [{"id": "student"}], "seeds": [0, 1]},
]


def kind_of(process: psutil.Process) -> str:
    """What a process of the stack is."""
    with_arguments = " ".join(process.cmdline())
    return next((kind for words, kind in KINDS.items() if words in with_arguments), f"other: {with_arguments[:60]}")


@dataclass
class Chaos:
    """One run: what was hit, and how every study came out of it.

    pause: mean seconds between two hits. stops: the share of SIGSTOP among them. most: hits on one study. shapes: what studies are drawn
    from.
    """

    bench: Bench
    random: random.Random
    pause: float
    stops: float = 0.3
    most: int = 12
    shapes: Sequence[dict[str, Any]] = tuple(STUDIES)
    hits: list[tuple[str, str, str]] = field(default_factory=list)  # kind, signal, study
    studies: dict[int, int] = field(default_factory=dict)  # disturbed study -> its undisturbed one

    def run(self, kills: int) -> None:
        undisturbed: dict[int, int] = {}  # shape -> study
        while len(self.hits) < kills:
            which = self.random.randrange(len(self.shapes))
            if which not in undisturbed:
                undisturbed[which] = self._undisturbed(self.shapes[which])
            study = self.bench.submit(f"chaos {len(self.studies) + 1}", force=True, **self.shapes[which])
            self.studies[study] = undisturbed[which]
            self._disturb(study, kills)
            self._check(study)

    def _undisturbed(self, changes: dict[str, Any]) -> int:
        study = self.bench.submit(f"undisturbed {changes}", **changes)
        assert self.bench.await_end(study).state.value == "finished"
        return study

    def _disturb(self, study: int, kills: int) -> None:
        """Hits until the study has its end, or enough was hit: then it is left alone, for on a slow machine hits come faster than Ray
        starts."""
        enough = min(kills, len(self.hits) + self.most)
        while len(self.hits) < enough:
            until = time.monotonic() + self.random.uniform(0.1, 2 * self.pause)
            while time.monotonic() < until:
                if self.bench.store.study(study).state.final:
                    return
                time.sleep(0.1)
            self._hit(study)

    def _hit(self, study: int) -> None:
        """A process of a kind that is drawn first, so that the few of a kind are hit as often as the many."""
        kinds: dict[str, list[psutil.Process]] = {}
        for process in processes_of(self.bench.stack.id, self.bench.stack.run):
            try:
                if process.status() != psutil.STATUS_STOPPED:
                    kinds.setdefault(kind_of(process), []).append(process)
            except psutil.Error:
                continue
        if any(len(kinds.get(guard, [])) < count for guard, count in GUARDS.items()):
            kinds = {kind: processes for kind, processes in kinds.items() if kind not in GUARDS}
        if not kinds:  # all that is left is stopped, and waits for those that watch over it
            return
        kind = self.random.choice(sorted(kinds))
        number = signal.SIGSTOP if self.random.random() < self.stops else signal.SIGKILL
        try:
            self.random.choice(kinds[kind]).send_signal(number)
        except psutil.NoSuchProcess:
            return
        self.hits.append((kind, number.name, f"{study}"))
        print(f"{time.strftime('%H:%M:%S')} {len(self.hits):3d} {number.name} {kind} (study {study})", flush=True)

    def _check(self, study: int) -> None:
        began = time.monotonic()
        trials = len(self.bench.store.trials(study))
        self.bench.hold_against(study, self.studies[study], trials)
        attempts = self.bench.store.attempts(study)
        print(f"study {study}: as undisturbed, {len(attempts)} attempts, {time.monotonic() - began:.0f} s after the last hit", flush=True)


def busy(processes: Sequence[psutil.Process]) -> dict[str, float]:
    """Share of a core that each process took for IDLE_SECONDS, of those above IDLE_SHARE."""

    def used(process: psutil.Process) -> float:
        try:
            times = process.cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    before = {process: used(process) for process in processes}
    time.sleep(IDLE_SECONDS)
    shares = {process: (used(process) - start) / IDLE_SECONDS for process, start in before.items()}
    return {f"{process.pid} {kind_of(process)}": round(share, 2) for process, share in shares.items() if share > IDLE_SHARE}


def left_over(stack: Stack) -> list[str]:
    """Command lines of processes that belong to the stack, by mark or because they name its folders."""
    found = [" ".join(process.cmdline()) for process in processes_of(stack.id, stack.run)]
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if stack.home in line.split("chaos")[0] or stack.temp in line:
            found.append(line)
    return found


def report(chaos: Chaos) -> str:
    """What was hit how often, as a table of Markdown, and what became of the studies."""
    counted = Counter((kind, name) for kind, name, _ in chaos.hits)
    lines = ["| process | SIGKILL | SIGSTOP |", "|---|---|---|"]
    for kind in sorted({kind for kind, _ in counted}):
        lines.append(f"| {kind} | {counted[kind, 'SIGKILL']} | {counted[kind, 'SIGSTOP']} |")
    attempts = {study: len(chaos.bench.store.attempts(study)) for study in chaos.studies}
    lines.append(f"\n{len(chaos.hits)} hits on {len(chaos.studies)} studies; attempts of each: {list(attempts.values())}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=20.0, help="mean seconds between two hits")
    parser.add_argument("--most", type=int, default=12, help="hits on one study, which then comes to its end")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds before a study is thought to hang")
    parser.add_argument("--data", type=Path, help="folder with the digits prepared; they are made anew without")
    parser.add_argument("--keep", action="store_true", help="leave the state folder behind")
    options = parser.parse_args()
    from workers.datasets import prepare

    signal.signal(signal.SIGTERM, lambda *_: sys.exit("interrupted"))  # the stack goes down with this program
    folder = Path(tempfile.mkdtemp(prefix="retort-faults-"))
    data = options.data or folder / "data"
    prepare("digits", data)
    with running(folder / "home", data, 2, settings={}) as bench:
        bench.patience = options.patience
        chaos = Chaos(bench, random.Random(options.seed), options.pause, most=options.most)
        began = time.monotonic()
        try:
            chaos.run(options.kills)
            time.sleep(30)
            if burning := busy(processes_of(bench.stack.id, bench.stack.run)):
                sys.exit(f"these processes burn CPU although nothing is to do: {burning}")
        finally:
            print(report(chaos), flush=True)
            print(f"{time.monotonic() - began:.0f} s; state in {folder}", flush=True)
    if orphans := left_over(bench.stack):
        sys.exit(f"left behind: {orphans}")
    if not options.keep:
        shutil.rmtree(folder)
    print("all held", flush=True)


if __name__ == "__main__":
    main()
