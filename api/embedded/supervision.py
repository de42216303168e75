"""Starting and stopping the embedded stack under supervisord, which restarts a part that dies.

`up` returns when every part answers; `down` stops what `up` started, checks that each of its processes is gone, and tidies up.
"""

import contextlib
import os
import secrets
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from api.embedded import supervisord
from api.embedded.health import health, readiness, status
from api.embedded.locks import choosing_ports, home_lock
from api.embedded.part import pause, starts, starts_file
from api.embedded.processes import gone, kill, processes_of, terminate
from api.embedded.stack import Part, Stack, StackError, load_stack, new_stack, stack_file

START_SECONDS = 300  # the first start imports Ray and MLflow from a cold disk, on a machine that may be busy
STOP_SECONDS = 60
PAUSE_SECONDS = 60  # 20 of them for checkpoints
_TRIES = 3  # a part that dies this often while it starts is given up
Say = Callable[[str], None]


def up(home: Path, ports: dict[str, int | None], auto: bool, cpus: int | None, say: Say) -> tuple[Stack, bool]:
    """The running stack of this home, and whether it was started just now. Raises StackError."""
    _private_folder(home)
    _private_folder(home / "run")
    with home_lock(home):
        stack = load_stack(home)
        if stack and supervisord.answers(stack):
            _same_ports(stack, ports)
            _revive(stack, say)
            return stack, False
        if stack:
            end(stack, say)  # what a crash or a reboot left behind
        with choosing_ports():
            stack = new_stack(home, ports, auto, cpus)
            try:
                start(stack, say)
            except BaseException:
                end(stack, lambda _: None)
                raise
        return stack, True


def down(home: Path, say: Say) -> bool:
    """Stop the stack of this home; False if there was none. Raises StackError where a process does not end."""
    if not stack_file(home).exists():
        return False
    with home_lock(home):
        stack = load_stack(home)
        if stack is None:
            return False
        _pause(stack, say)
        end(stack, say)
        return True


def _pause(stack: Stack, say: Say) -> None:
    """Lets the trials that run write a checkpoint, and ends their attempts as planned: that they are stopped is no loss of theirs."""
    supervisor = supervisord.process(stack)
    if supervisor is None or "orchestrator" not in supervisord.process_infos(stack):
        return
    with contextlib.suppress(*supervisord.NO_ANSWER):
        supervisord.rpc(stack, supervisord.WAITING_SECONDS).stopProcess("orchestrator", True)  # it would open the next attempts
    command = [sys.executable, "-m", "orchestrator.driving.pausing", "the stack goes down"]
    try:
        done = subprocess.run(command, env=supervisor.environ(), cwd=stack.run, capture_output=True, text=True, timeout=PAUSE_SECONDS)
        told = done.stdout.strip() if done.returncode == 0 else f"studies could not be told of it: {done.stderr.strip().splitlines()[-1:]}"
    except subprocess.TimeoutExpired:
        told = f"studies could not be told of it within {PAUSE_SECONDS} s; their attempts will count as lost"
    if told:
        say(told)


def start(stack: Stack, say: Say) -> None:
    """Start the supervisor of a stack and wait until every part answers. Raises StackError."""
    for folder in (stack.logs, Path(stack.home) / "mlflow", Path(stack.temp)):
        _private_folder(folder)
    stack.token.touch(mode=0o600)
    stack.token.write_text(secrets.token_hex(32))
    stack.save()
    with _opening_database(stack):  # while Ray and MLflow start
        supervisord.launch(stack)
    _await_all(stack, say)


@contextlib.contextmanager
def _opening_database(stack: Stack) -> Iterator[None]:
    """Brings the database to this version meanwhile, as whichever process is first does. Raises StackError where it cannot be opened."""
    opens = (
        "from orchestrator.settings import settings; from orchestrator.records.store import Store; "
        "settings().environment(); Store(settings().database)"
    )
    command = [sys.executable, "-c", opens]
    opening = subprocess.Popen(
        command, env=stack.environment(), cwd=stack.run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield
    finally:
        _, told = opening.communicate()
    if opening.returncode:
        reason = told.strip().splitlines()[-1:] or ["no reason given"]
        from orchestrator.credentials import without_password

        shown = without_password(stack.environment()["RETORT_DATABASE_URL"])
        raise StackError(f"the database {shown} cannot be opened: {reason[0]}")


def _revive(stack: Stack, say: Say) -> None:
    """Start the parts that the supervisor has given up, and wait until all answer; instant when all is well."""
    parts = status(stack)
    if all(part.well for part in parts):
        return
    for part in parts:
        if part.state in {"FATAL", "EXITED", "STOPPED"}:
            say(f"{part.part.title} was {part.state.lower()}; starting it again")
            with contextlib.suppress(*supervisord.NO_ANSWER):
                supervisord.rpc(stack).startProcess(part.part.name, False)
    _await_all(stack, say)


def _await_all(stack: Stack, say: Say) -> None:
    """Return when every part answers. Raises StackError with the log of one that does not."""
    began = time.monotonic()
    waiting = {part.name for part in stack.parts()}
    deaths: dict[str, set[int]] = {name: set() for name in waiting}
    while waiting:
        infos = supervisord.process_infos(stack)
        if not infos and supervisord.process(stack) is None and time.monotonic() - began > 5:
            raise StackError(f"the supervisor has ended; see {stack.logs / 'supervisor.log'}")
        for part in stack.parts():
            if part.name not in waiting or part.name not in infos:
                continue
            info = infos[part.name]
            if info["stop"]:
                deaths[part.name].add(info["stop"])
            if info["statename"] == "FATAL" or len(deaths[part.name]) >= _TRIES:
                reason = info["spawnerr"] or f"exit status {info['exitstatus']}"
                raise StackError(f"{part.title} does not start ({reason}). The end of its log:\n{supervisord.last_lines(stack, part.name)}")
            if _has_begun(stack, part, info) and not health(stack, part, readiness(stack)):
                waiting.remove(part.name)
                say(f"{part.title:<13} ready after {time.monotonic() - began:4.1f} s  {part.address or ''}".rstrip())
        if time.monotonic() - began > START_SECONDS:
            late = next(part for part in stack.parts() if part.name in waiting)
            raise StackError(
                f"{late.title} does not answer after {START_SECONDS} s. The end of its log:\n{supervisord.last_lines(stack, late.name)}"
            )
        time.sleep(0.2)


def _has_begun(stack: Stack, part: Part, info: dict[str, Any]) -> bool:
    """Whether the part has run its own command for a second: the supervisor counts from the process's start, which may be slow."""
    known = starts(starts_file(Path(stack.home), part.name))
    if info["statename"] != "RUNNING" or not known or known[-1].pid != info["pid"]:
        return False
    return time.time() - known[-1].time > pause(known[:-1], known[-1].time) + 1


def end(stack: Stack, say: Say) -> None:
    """Stop the supervisor and with it all parts; end what is left; remove what only a running stack needs."""
    if processes_of(stack.id, stack.run):
        say("stopping " + ", ".join(part.title for part in reversed(stack.parts())))
    supervisor = supervisord.process(stack)
    with contextlib.suppress(*supervisord.NO_ANSWER):
        supervisord.rpc(stack).shutdown()
        gone(lambda: [supervisor] if supervisor and supervisor.is_running() else [], STOP_SECONDS)
    # Whatever outlived its parent: Ray's workers after a crash, a driver in its own session.
    terminate(processes_of(stack.id, stack.run))
    if not gone(lambda: processes_of(stack.id, stack.run), 5):
        kill(processes_of(stack.id, stack.run))
        if not gone(lambda: processes_of(stack.id, stack.run), 5):
            left = ", ".join(str(process.pid) for process in processes_of(stack.id, stack.run))
            raise StackError(f"these processes do not end: {left}")
    for part in stack.parts():
        starts_file(Path(stack.home), part.name).unlink(missing_ok=True)
    for file in (stack.socket, stack.pidfile, stack.token, stack.run / "supervisord.conf"):
        file.unlink(missing_ok=True)
    _keep_ray_logs(stack)
    shutil.rmtree(stack.temp, ignore_errors=True)
    stack_file(Path(stack.home)).unlink(missing_ok=True)  # last: until here another `down` finishes the work


def _keep_ray_logs(stack: Stack) -> None:
    """Ray's logs of this session, its drivers' among them, outlive the session in `logs/ray` (until the next one ends)."""
    logs = Path(stack.temp) / "ray" / "session_latest" / "logs"
    if logs.is_dir():
        shutil.rmtree(stack.logs / "ray", ignore_errors=True)
        shutil.copytree(logs.resolve(), stack.logs / "ray", symlinks=True, ignore_dangling_symlinks=True)


def _same_ports(stack: Stack, wanted: dict[str, int | None]) -> None:
    other = {name: port for name, port in wanted.items() if port is not None and port != stack.ports[name]}
    if other:
        told = ", ".join(f"{name} on {stack.ports[name]} instead of {port}" for name, port in other.items())
        raise StackError(f"it is already up, with {told}; `retort down` first to change ports")


def _private_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter. Raises StackError where someone else owns it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise StackError(f"{folder} belongs to another user, or is a link; it must be a folder of yours")
