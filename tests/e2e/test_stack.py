"""The whole of it once: the embedded stack starts, a study runs through it, and again from what is stored; nothing stays behind."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from api.embedded.stack import load_stack
from orchestrator.driving.standby import PREFIX

Retort = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("retort")


@pytest.fixture(scope="module")
def retort(home: Path) -> Iterator[Retort]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RETORT_")} | {"RETORT_HOME": str(home)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "api.command.cli", *arguments], env=environment, cwd=home, capture_output=True, text=True
        )

    try:
        yield run
    finally:
        run("down")


def test_a_study_runs_through_the_embedded_stack_and_again_from_what_is_stored(retort: Retort, home: Path) -> None:
    up = retort("up", "--ports", "auto")
    assert up.returncode == 0, up.stdout + up.stderr
    stack = load_stack(home)
    assert stack is not None
    assert f"service {stack.url('api')}" in up.stdout

    again = retort("up")
    assert again.returncode == 0
    assert again.stdout.startswith("already up")
    assert load_stack(home) == stack
    assert retort("status").returncode == 0
    doctor = retort("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "1 node, 1 of them train" in doctor.stdout
    assert "same code, shares the state, reaches the database" in doctor.stdout

    arms = "arms=[{id: student, title: student alone}, {id: fitnet, distiller: fitnet}]"
    study = ("digits", "--scale", "smoke", "--set", arms)
    first = retort("submit", *study, "--watch")
    assert first.returncode == 0, first.stdout + first.stderr
    second = retort("submit", *study, "--watch")
    assert second.returncode == 0, second.stdout + second.stderr
    assert numbers(first.stdout) == numbers(second.stdout)
    assert second.stdout.count("(cached)") == 3
    assert "0 of 3 trials to train, 3 reused" in retort("plan", *study).stdout
    deadline = time.monotonic() + 300
    while not given_to_the_driver_that_waits(home):
        assert time.monotonic() < deadline, "no driver waits for studies"
        assert retort("submit", *study, "--watch").returncode == 0

    copied = retort("backup", str(home / "backup"))
    assert copied.returncode == 0, copied.stdout + copied.stderr
    states = list((home / "trials").glob("*/last.pt"))
    assert len(states) == 3
    assert re.search(r"last states of finished trials +3 ", retort("gc", "--after", "0").stdout)
    assert all(file.exists() for file in states)
    assert "removed, " in retort("gc", "--after", "0", "--yes").stdout
    assert not any(file.exists() for file in states)
    assert "0 of 3 trials to train, 3 reused" in retort("plan", *study).stdout
    assert "disk: " in retort("status").stdout
    deadline = time.monotonic() + 300  # on a slow machine MLflow may be told late, which the stack says
    while (told := json.loads(retort("status", "--json").stdout))["advice"] and time.monotonic() < deadline:
        time.sleep(1)
    assert (len(told["parts"]), told["advice"], told["disk"]["free"] > 0) == (6, [], True)

    assert len(processes_of(stack.id)) > 5
    assert retort("down").stdout.endswith("down\n")
    assert processes_of(stack.id) == []
    assert load_stack(home) is None
    assert not Path(stack.temp).exists()
    assert retort("status").returncode == 1


def test_a_study_that_was_running_when_the_stack_went_down_goes_on_at_the_next_up(retort: Retort) -> None:
    assert retort("up", "--ports", "auto").returncode == 0
    changes = ("--set", "arms=[{id: student, title: student alone}]", "--set", "schedule={recipe: smoke, max_iterations: 2, epochs: 100}")
    study = re.findall(r"^study (\d+)", retort("submit", "digits", *changes).stdout)[0]
    while not re.search(r" [1-9]\d?/100", shown := retort("show", study).stdout):
        assert " failed" not in shown
        time.sleep(0.5)
    assert "1 studies will go on from here" in retort("down").stdout
    assert retort("up", "--ports", "auto").returncode == 0
    watched = retort("watch", study)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    assert "attempt 1 ended: the stack goes down" in watched.stdout
    assert "attempt 2 started" in watched.stdout
    epochs = re.findall(r"student alone · seed 0: epoch (\d+)/100", watched.stdout)
    assert epochs == [str(epoch) for epoch in range(1, 101)]


def given_to_the_driver_that_waits(home: Path) -> bool:
    """Whether any attempt so far was."""
    with closing(sqlite3.connect(f"file:{home}/retort.db?mode=ro", uri=True)) as database:
        return database.execute("SELECT submission FROM attempt WHERE submission LIKE ?", (f"{PREFIX}%",)).fetchone() is not None


def numbers(output: str) -> list[str]:
    """The metrics of a printed table."""
    return re.findall(r"\| +(-?\d+\.\d)", output)


def processes_of(stack_id: str) -> list[int]:
    """Living processes that carry the stack's mark (a dead one that nobody has reaped shows no environment)."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RETORT_STACK") == stack_id:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found
