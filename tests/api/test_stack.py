"""The embedded stack: ports, environment, and a supervisor that starts parts, restarts them and leaves nothing behind.

The parts here are small web servers; the real ones are started in tests/e2e.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from api.embedded import supervisord
from api.embedded.advice import advice
from api.embedded.health import status
from api.embedded.locks import home_lock
from api.embedded.part import pause, starts, starts_file
from api.embedded.processes import stands_still
from api.embedded.stack import LOOPBACK, PORTS, Part, Stack, StackError, load_stack, new_stack
from api.embedded.supervision import end, start
from api.embedded.supervisord import answers, last_lines
from api.embedded.watchdog import STILL_SECONDS, Watchdog

WEB_SERVER = """
import http.server, json, os, sys

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        ready = {"stack": os.environ["RETORT_STACK"], "database": "ok", "orchestrator": {"trouble": ""}}
        self.wfile.write(json.dumps({**ready, "troubles": []}).encode())

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""
CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
FAILING = "print('no GPU today'); raise SystemExit(3)"


@dataclass(frozen=True)
class SmallStack(Stack):
    """A web server for the API, and a part that starts a child of its own."""

    broken: bool = False

    def parts(self) -> list[Part]:
        server = [sys.executable, f"{self.home}/server.py", str(self.ports["api"])]
        return [
            Part("api", "API", server, self.url("api"), self.url("api") + "/readyz"),
            Part("orchestrator", "orchestrator", [sys.executable, "-c", FAILING if self.broken else CHILD]),
        ]


def small_stack(home: Path, broken: bool = False) -> SmallStack:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        ports = {**new_stack(home, {}, auto=True, cpus=1).ports, "api": probe.getsockname()[1]}
    (home / "run").mkdir(parents=True)
    (home / "server.py").write_text(WEB_SERVER)
    return SmallStack(id=os.urandom(8).hex(), home=str(home), temp=str(home / "temp"), cpus=1, ports=ports, broken=broken)


def wait_for(what: str, there: Callable[[], object], seconds: float = 100.0) -> None:
    """Until it is there. Fails after so many seconds with what was waited for."""
    deadline = time.monotonic() + seconds
    while not there():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.05)


def marked(stack: Stack) -> list[int]:
    """Process ids that carry the stack's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RETORT_STACK") == stack.id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def test_a_stack_is_started_restarted_part_by_part_and_stopped_whole(tmp_path: Path) -> None:
    stack = small_stack(tmp_path / "home")
    said: list[str] = []
    try:
        start(stack, said.append)
        assert sorted(line.split()[0] for line in said) == ["API", "orchestrator"]
        assert all(part.well for part in status(stack))
        assert len(marked(stack)) == 4  # supervisor, two parts, the child of one
        first = status(stack)[0].pid
        os.kill(first, signal.SIGKILL)
        wait_for("the API in another process", lambda: (now := status(stack)[0]).pid not in {0, first} and now.well)
        assert urllib.request.urlopen(stack.url("api")).status == 200
    finally:
        end(stack, said.append)
    assert marked(stack) == []
    assert not answers(stack)
    assert [file.name for file in stack.run.iterdir()] == []
    assert not Path(stack.temp).exists()


def test_a_part_whose_leader_was_killed_starts_again_when_its_children_are_gone(tmp_path: Path) -> None:
    stack = small_stack(tmp_path / "home")
    try:
        start(stack, lambda _: None)
        leader = psutil.Process(status(stack)[1].pid)
        (child,) = leader.children()
        leader.kill()
        await_restart(stack, leader.pid)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        assert len(marked(stack)) == 4
        assert "ending 1 processes that its earlier life has left behind" in last_lines(stack, "orchestrator")
    finally:
        end(stack, lambda _: None)


def await_restart(stack: Stack, former: int) -> None:
    """Until the second part runs in another process, with its child."""

    def restarted() -> bool:
        pid = status(stack)[1].pid
        return pid not in {0, former} and bool(psutil.Process(pid).children())

    wait_for("the second part in another process, with its child", restarted)


def stop(pid: int) -> None:
    """Until it stands still: the signal may reach it a moment later."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(f"process {pid} to stand still", lambda: stands_still(psutil.Process(pid)))


def test_a_part_that_is_restarted_again_and_again_is_shown_as_failing_with_its_last_error(tmp_path: Path) -> None:
    stack = small_stack(tmp_path / "home")
    try:
        start(stack, lambda _: None)
        (tmp_path / "home" / "server.py").write_text("print('error: the port is taken.', 'Shut down.', sep='\\n')")
        os.kill(status(stack)[0].pid, signal.SIGKILL)
        wait_for("a part that is told as failing", lambda: status(stack)[0].failing)
        part = status(stack)[0]
        assert not part.well
        assert part.failing == "started 4 times within 1 min; its log says: error: the port is taken"
        (told,) = advice(stack, status(stack), time.time())
        assert told.startswith(
            "API fails again and again: started 4 times within 1 min; its log says: error: the port is taken. It is tried"
        )
        assert pause(starts(starts_file(Path(stack.home), "api")), time.time()) >= 4.0  # before the fifth
    finally:
        end(stack, lambda _: None)


def test_the_watchdog_kills_what_stands_still_and_starts_a_supervisor_again_that_is_gone(tmp_path: Path) -> None:
    stack = small_stack(tmp_path / "home")
    seconds = 0.0
    watchdog = Watchdog(stack, clock=lambda: seconds)
    try:
        start(stack, lambda _: None)
        stopped = status(stack)[1].pid
        stop(stopped)
        (told,) = advice(stack, status(stack), time.time())
        assert told.startswith(f"orchestrator stands still, process {stopped} was stopped (SIGSTOP); it is started again after 60 s")
        assert watchdog.look() == []
        seconds += STILL_SECONDS - 1
        assert watchdog.look() == []
        seconds += 1
        (told,) = watchdog.look()
        assert told.startswith(f"process {stopped} (")
        await_restart(stack, stopped)
        os.kill(int(stack.pidfile.read_text()), signal.SIGKILL)
        wait_for("the supervisor's end", lambda: supervisord.process(stack) is None)
        assert watchdog.look() == ["the supervisor was gone; started it again"]
        wait_for("every part to be well", lambda: all(part.well for part in status(stack)))
        await_restart(stack, 0)
        assert len(marked(stack)) == 4  # the parts of the first supervisor ended before those of the second began
        stop(int(stack.pidfile.read_text()))
        assert watchdog.look() == []
        seconds += STILL_SECONDS
        killed, started = watchdog.look()
        assert killed.endswith("stood still; killed it")
        assert started == "the supervisor was gone; started it again"  # within the same round: a killed one is waited for
        wait_for("every part to answer", lambda: not any(part.health for part in status(stack)))
    finally:
        end(stack, lambda _: None)
    assert marked(stack) == []


HOLDS_THE_LOCK = """
import os, pathlib, sys, time
from api.embedded.locks import home_lock
with home_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def holder_of_the_lock(home: Path, part: str) -> subprocess.Popen[str]:
    (home / "run").mkdir(exist_ok=True)
    command = [sys.executable, "-c", HOLDS_THE_LOCK, str(home)]
    process = subprocess.Popen(command, env={**os.environ, "RETORT_PART": part}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_watchdog_that_was_stopped_in_its_round_keeps_nobody_from_acting(tmp_path: Path) -> None:
    with holder_of_the_lock(tmp_path, "watchdog-1") as stopped:
        stop(stopped.pid)
        with home_lock(tmp_path) as mine:  # what `up` and `down` do: wait
            assert mine
        assert stopped.wait(10) == -signal.SIGKILL


def test_the_other_watchdog_takes_over_in_its_next_round_and_a_command_that_is_paused_is_left_alone(tmp_path: Path) -> None:
    def round_is_mine() -> bool:
        with home_lock(tmp_path, wait=False) as mine:
            return mine

    with holder_of_the_lock(tmp_path, "watchdog-1") as stopped:
        assert not round_is_mine()  # it is at work
        stop(stopped.pid)
        assert not round_is_mine()
        wait_for("the lock of a watchdog that stood still", round_is_mine)
    with holder_of_the_lock(tmp_path, "") as command:
        stop(command.pid)
        assert not round_is_mine()
        assert command.poll() is None
        command.kill()


def test_down_ends_a_supervisor_that_stands_still(tmp_path: Path) -> None:
    stack = small_stack(tmp_path / "home")
    start(stack, lambda _: None)
    os.kill(int(stack.pidfile.read_text()), signal.SIGSTOP)
    end(stack, lambda _: None)
    assert marked(stack) == []


def test_a_part_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    stack = small_stack(tmp_path / "home", broken=True)
    try:
        with pytest.raises(StackError, match=r"(?s)orchestrator does not start.*no GPU today"):
            start(stack, lambda _: None)
        assert last_lines(stack, "orchestrator", 1) == "no GPU today"
    finally:
        end(stack, lambda _: None)
    assert marked(stack) == []


def test_what_outlives_a_killed_supervisor_is_stopped_too(tmp_path: Path) -> None:
    stack = small_stack(tmp_path / "home")
    try:
        start(stack, lambda _: None)
        os.kill(int(stack.pidfile.read_text()), signal.SIGKILL)
        wait_for("the supervisor's end", lambda: not answers(stack))
        assert len(marked(stack)) == 3
    finally:
        end(stack, lambda _: None)
    assert marked(stack) == []


def test_a_taken_port_is_told_with_the_option_that_changes_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"port {port} for MLflow is taken.*\n.*--mlflow-port N.*--ports auto"):
            new_stack(tmp_path, {"mlflow": port}, auto=True, cpus=None)


def test_a_port_that_rays_workers_may_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"port 10500 for Ray's head lies in 10002-19999, which Ray keeps .*--ray-port N"):
        new_stack(tmp_path, {"ray": 10500}, auto=True, cpus=None)


def test_auto_takes_free_ports_and_none_twice(tmp_path: Path) -> None:
    stack = new_stack(tmp_path, {}, auto=True, cpus=None)
    assert set(PORTS) < set(stack.ports)
    assert len(set(stack.ports.values())) == len(stack.ports)
    assert all(stack.ports.values())


def test_the_same_port_twice_is_refused(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    with pytest.raises(StackError, match=f"--api-port and --mlflow-port are the same port {port}"):
        new_stack(tmp_path, {"api": port, "mlflow": port}, auto=True, cpus=None)


def test_sockets_stay_short_whatever_the_home_is_called(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    stack = new_stack(home, {}, auto=True, cpus=None)
    assert len(os.fsencode(stack.socket)) <= 100
    longest = "ray/session_2026-11-21_01-39-25_458999_4194304/sockets/plasma_store"
    assert len(os.fsencode(f"{stack.temp}/{longest}")) < 104


def test_two_homes_never_share_a_folder_for_sockets(tmp_path: Path) -> None:
    first, second = (new_stack(tmp_path / name, {}, auto=True, cpus=None) for name in "ab")
    assert first.temp != second.temp


def test_a_saved_stack_is_found_again(tmp_path: Path) -> None:
    stack = new_stack(tmp_path, {}, auto=True, cpus=3)
    (tmp_path / "run").mkdir()
    assert load_stack(tmp_path) is None
    stack.save()
    assert load_stack(tmp_path) == stack
    (tmp_path / "run" / "stack.json").write_text(json.dumps({"id": "of another version"}))
    assert load_stack(tmp_path) is None


def test_parts_see_this_stack_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://elsewhere:10001")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy")
    monkeypatch.setenv("RETORT_MLFLOW_UI", "http://mlflow.example")
    monkeypatch.setenv("NO_PROXY", "example.org")
    stack = new_stack(tmp_path, {}, auto=True, cpus=None)
    environment = stack.environment()
    assert "RAY_ADDRESS" not in environment
    assert environment["MLFLOW_TRACKING_URI"] == stack.url("mlflow")
    assert environment["RETORT_HOME"] == str(tmp_path)
    assert environment["RETORT_MLFLOW_UI"] == "http://mlflow.example"
    assert environment["no_proxy"] == environment["NO_PROXY"] == "example.org,127.0.0.1,localhost"
