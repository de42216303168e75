"""Retort in containers, from nothing: builds and starts docker-compose.yml, submits a study from this machine, kills each container in
turn while such a study runs, and holds every table against the undisturbed one.

    docker/try.sh [--keep] [--no-build] [--only PART...]        prints times and sizes, and writes them as Markdown with --out FILE

It runs as a project of its own on ports of its own and ends with everything removed, so that a Retort that is up here is left alone.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from api.client import Client, Refused, Unreachable

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "retort-try"
PORTS = {"API_PORT": "8480"}
CPUS = "1"  # of a worker: one trial at a time each
PARTS = ("ray-worker", "api", "orchestrator", "mlflow", "postgres", "ray-head")
PATIENCE = 900  # seconds for a study of a few steps, or a start, on a busy machine
TIMES = ("images_per_second", "epoch_seconds", "FPS")  # metrics of the machine, not of the training
# By seed three trainings of four epochs of a few steps, and their teacher's, made anew however often they were made before.
STUDY = {
    "dataset": "digits",
    "scale": "nano",
    "schedule": {"recipe": "smoke", "epochs": 4, "batch_size": 4, "max_iterations": 8},
    "teacher": {"detector": "gfl", "backbone": "resnet18"},
    "student": {"detector": "gfl", "backbone": "resnet18"},
    "arms": [{"id": "student"}, {"id": "fitnet", "distiller": "fitnet"}, {"id": "ld", "distiller": "ld"}],
    "metrics": ["AP", "AP50"],
    "force": True,
}


class Failed(Exception):
    """What was to be shown is not so."""


class Bench:
    """The compose project, its service, and what was measured: lines of a table each."""

    def __init__(self) -> None:
        # Ports by the environment, not by .env: that one is of the Retort that may be up here.
        self.environment = {
            **os.environ,
            **PORTS,
            "WORKER_CPUS": CPUS,
            "COMPOSE_PROJECT_NAME": PROJECT,
            "DOCKER_BUILDKIT": "1",
            "COMPOSE_DOCKER_CLI_BUILD": "1",
        }
        self.run("docker/secrets.sh")
        self.environment["RETORT_URL"] = f"http://127.0.0.1:{PORTS['API_PORT']}"
        self.environment["RETORT_TOKEN"] = (ROOT / "docker/secrets/api_token").read_text()
        self.client = Client(self.environment["RETORT_URL"], self.environment["RETORT_TOKEN"])
        self.figures: list[tuple[str, str]] = []

    def say(self, what: str, figure: str) -> None:
        print(f"{what}: {figure}", flush=True)
        self.figures.append((what, figure))

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.say(what, f"{time.monotonic() - started:.0f} s")

    def run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def compose(self, *arguments: str) -> str:
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
        return self.run(*(("docker", "compose") if plugin else ("docker-compose",)), *arguments)

    def containers(self, part: str = "") -> list[str]:
        """Ids of the project's running containers, of one part or of all."""
        filters = [f"label=com.docker.compose.project={PROJECT}", *([f"label=com.docker.compose.service={part}"] if part else [])]
        return self.run("docker", "ps", "-q", *(word for each in filters for word in ("--filter", each))).split()

    def kill(self, container: str) -> None:
        """Ends a container as a crash does: `docker kill` would also tell Docker not to start it again."""
        pid = self.run("docker", "inspect", "--format", "{{.State.Pid}}", container).strip()
        image = self.run("docker", "inspect", "--format", "{{.Config.Image}}", self.containers("api")[0]).strip()
        self.run("docker", "run", "--rm", "--pid=host", "--user=0", "--network=none", image, "sh", "-c", f"kill -9 {pid}")

    def await_(self, there: Callable[[], bool], what: str) -> None:
        patience = time.monotonic() + PATIENCE
        while not there():
            if time.monotonic() > patience:
                raise Failed(f"{what}: not within {PATIENCE} s")
            time.sleep(0.5)

    def healthy(self, count: int) -> bool:
        """Whether so many containers run and say that they are well."""
        states = [self.run("docker", "inspect", "--format", "{{.State.Health.Status}}", each).strip() for each in self.containers()]
        return len(states) == count and set(states) == {"healthy"}

    def submit(self, name: str, seeds: int) -> int:
        return int(self.client.submit({"name": name, "seeds": list(range(seeds)), **STUDY})["id"])

    def trials(self, study: int) -> list[dict[str, Any]]:
        try:
            return self.client.trials(study)
        except (Unreachable, Refused):  # one of the killed is on its way back
            return []

    def in_training(self, study: int) -> bool:
        """Whether a student of it is in the middle: its first epoch is done, its last is not."""
        return any(t["role"] != "teacher" and t["state"] == "running" and 0 < t["epoch"] < t["epochs"] for t in self.trials(study))

    def ended(self, study: int) -> bool:
        try:
            return self.client.study(study)["state"] in {"finished", "incomplete", "failed", "cancelled"}
        except (Unreachable, Refused):
            return False

    def numbers(self, study: int) -> dict[str, Any]:
        """All that training decides: by trial its state, epochs, metrics and the digest of its checkpoint."""
        return {
            t["name"]: (t["state"], t["epoch"], {k: v for k, v in (t["metrics"] or {}).items() if k not in TIMES}, t["checkpoint_sha256"])
            for t in self.client.trials(study)
        }

    def table(self, study: int) -> str:
        """Its table without its number and the address of its runs."""
        return re.sub(r"\(study \d+|/experiments/\d+/runs/\w+", "", self.client.table(study)).split("\n", 1)[1]

    def runs(self, name: str) -> list[str]:
        """States of the runs that MLflow shows of the study of that name."""
        mlflow = f"{self.client.url}/mlflow/api/2.0/mlflow"
        with httpx.Client(timeout=30, trust_env=False, headers={"Authorization": f"Bearer {self.environment['RETORT_TOKEN']}"}) as http:
            found = http.get(f"{mlflow}/experiments/get-by-name", params={"experiment_name": name}).raise_for_status().json()["experiment"]
            asked = {"experiment_ids": [found["experiment_id"]], "max_results": 100}
            return [run["info"]["status"] for run in http.post(f"{mlflow}/runs/search", json=asked).raise_for_status().json()["runs"]]

    def hold_against(self, study: int, undisturbed: int, name: str) -> None:
        """The study ended as if nothing had happened, and MLflow shows each of its runs once, ended."""
        if self.numbers(study) != self.numbers(undisturbed) or self.table(study) != self.table(undisturbed):
            raise Failed(f"{name}: the table differs\n{self.client.table(study)}\n{self.client.table(undisturbed)}")

        def shown() -> bool:
            try:
                return self.runs(name) == ["FINISHED"] * (1 + len(self.trials(study)))
            except httpx.HTTPError:
                return False

        self.await_(shown, f"{name}: MLflow shows each run once and ended")


def start(bench: Bench, build: bool) -> None:
    if build:
        with bench.timed("build of the images"):
            print(bench.run("docker/build.sh"), flush=True)
    with bench.timed("start until all are healthy"):
        bench.compose("up", "-d")
        bench.await_(lambda: bench.healthy(len(PARTS)), "start")
    for line in sorted(
        set(bench.run("docker", "ps", "--filter", f"label=com.docker.compose.project={PROJECT}", "--format", "{{.Image}}").split())
    ):
        bench.say(
            f"size of {line}", f"{int(bench.run('docker', 'inspect', '--format', '{{.Size}}', '--type', 'image', line)) / 1e6:.0f} MB"
        )
    print(bench.run(sys.executable, "-m", "api.command.cli", "doctor"), flush=True)


def study(bench: Bench, name: str, undisturbed: int | None, disturb: Callable[[int], None], seeds: int = 1) -> int:
    """A study from its submission to its end, with a disturbance in the middle of its training."""
    began = time.monotonic()
    made = bench.submit(name, seeds)
    bench.await_(lambda: bench.in_training(made) or bench.ended(made), f"{name}: training")
    if bench.ended(made):
        raise Failed(f"{name}: ended before it could be disturbed")
    disturb(made)
    bench.await_(lambda: bench.ended(made), f"{name}: end")
    bench.hold_against(made, undisturbed or made, name)
    bench.say(
        f"study, {name}",
        f"{time.monotonic() - began:.0f} s, {'' if undisturbed is None else 'table and checkpoints identical'}".rstrip(", "),
    )
    return made


def several(bench: Bench) -> None:
    """Head without slots and two workers, one of which joins late; a worker and the head are killed, the API is restarted."""
    seeds = 4  # a worker takes longer to join than a study of one seed to train

    def disturb(made: int) -> None:
        bench.compose("up", "-d", "--no-recreate", "--scale", "ray-worker=2")
        bench.await_(lambda: len(bench.containers("ray-worker")) == 2, "a second worker")
        bench.await_(lambda: both_train(bench) or bench.ended(made), "both workers train")
        if bench.ended(made):
            raise Failed("the study ended before both workers trained")
        bench.kill(bench.containers("ray-worker")[-1])  # the older one
        bench.run("docker", "restart", *bench.containers("api"))
        time.sleep(5)
        bench.kill(bench.containers("ray-head")[0])

    bench.await_(lambda: bench.healthy(len(PARTS)), "all well again")
    undisturbed = study(bench, f"{seeds} seeds, undisturbed", None, lambda _: None, seeds)
    name = "two workers: one joins late, one killed, API restarted, head killed"
    study(bench, name, undisturbed, disturb, seeds)


def both_train(bench: Bench) -> bool:
    """Whether trials run on both workers now."""
    return all("ImplicitFunc.train" in bench.run("docker", "top", each, "-eo", "pid,args") for each in bench.containers("ray-worker"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave everything up at the end")
    parser.add_argument("--no-build", action="store_true", help="with the images that are there")
    parser.add_argument("--only", nargs="*", choices=[*PARTS, "several"], help="what to disturb [all]")
    parser.add_argument("--out", type=Path, help="Markdown table of the figures")
    chosen = parser.parse_args()
    bench = Bench()
    try:
        start(bench, not chosen.no_build)
        undisturbed = study(bench, "undisturbed", None, lambda _: None)
        print(bench.client.table(undisturbed), flush=True)
        for part in PARTS:
            if chosen.only is None or part in chosen.only:
                bench.await_(lambda: bench.healthy(len(PARTS)), "all well again")
                study(bench, f"{part} killed", undisturbed, lambda _, part=part: bench.kill(bench.containers(part)[0]))  # type: ignore[misc]
        if chosen.only is None or "several" in chosen.only:
            several(bench)
    except Failed as failed:
        sys.exit(str(failed))
    finally:
        if chosen.out:
            lines = ["| | |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in bench.figures)]
            chosen.out.write_text("\n".join(lines) + "\n")
        if not chosen.keep:
            bench.compose("down", "--volumes")


if __name__ == "__main__":
    main()
