"""Starting, watching and stopping the embedded stack under supervisord, which restarts a part that dies.

`up` returns when every part answers; `down` stops what `up` started, checks that each of its processes is gone, and tidies up.
"""

import contextlib
import fcntl
import functools
import http.client
import os
import secrets
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from api.embedded.stack import Part, Stack, StackError, load_stack, new_stack, stack_file

START_SECONDS = 180  # the first start imports Ray and MLflow from a cold disk
STOP_SECONDS = 60
_TRIES = 3  # a part that dies this often while it starts is given up
Say = Callable[[str], None]


@dataclass(frozen=True)
class PartStatus:
    """How a part is.

    state: as supervisord names it (RUNNING, BACKOFF, ...). pid: 0 when it does not run. since: its start, seconds since 1970.
    health: what is wrong, empty when all is well.
    """

    part: Part
    state: str
    pid: int
    since: float
    health: str

    @property
    def well(self) -> bool:
        return self.state == "RUNNING" and not self.health


def up(home: Path, ports: dict[str, int | None], auto: bool, cpus: int | None, say: Say) -> tuple[Stack, bool]:
    """The running stack of this home, and whether it was started just now. Raises StackError."""
    _private_folder(home)
    _private_folder(home / "run")
    with _lock(home):
        stack = load_stack(home)
        if stack and supervisor_answers(stack):
            _same_ports(stack, ports)
            _revive(stack, say)
            return stack, False
        if stack:
            end(stack, say)  # what a crash or a reboot left behind
        with _choosing_ports():
            stack = new_stack(home, ports, auto, cpus)
            try:
                _migrate(stack)
                start(stack, say)
            except BaseException:
                end(stack, lambda _: None)
                raise
        return stack, True


def down(home: Path, say: Say) -> bool:
    """Stop the stack of this home; False if there was none. Raises StackError where a process does not end."""
    if not stack_file(home).exists():
        return False
    with _lock(home):
        stack = load_stack(home)
        if stack is None:
            return False
        end(stack, say)
        return True


def status(stack: Stack) -> list[PartStatus]:
    """How every part is, now."""
    infos: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(OSError, http.client.HTTPException, xmlrpc.client.Error):
        infos = {info["name"]: info for info in _rpc(stack).supervisor.getAllProcessInfo()}
    ready = _readiness(stack)
    found = []
    for part in stack.parts():
        info = infos.get(part.name, {"statename": "STOPPED", "pid": 0, "start": 0})
        found.append(PartStatus(part, info["statename"], info["pid"], info["start"], _health(stack, part, ready)))
    return found


def supervisor_answers(stack: Stack) -> bool:
    """Whether the supervisor of this stack is alive."""
    try:
        return str(_rpc(stack).supervisor.getState()["statename"]) == "RUNNING"
    except (OSError, http.client.HTTPException, xmlrpc.client.Error):
        return False


def last_lines(stack: Stack, part: Part, count: int = 20) -> str:
    """The end of a part's log."""
    try:
        text = (stack.logs / f"{part.name}.log").read_text(errors="replace")
    except FileNotFoundError:
        return "(it has written no log)"
    return "\n".join(text.splitlines()[-count:])


def start(stack: Stack, say: Say) -> None:
    """Start the supervisor of a stack and wait until every part answers. Raises StackError."""
    for folder in (stack.logs, Path(stack.home) / "mlflow", Path(stack.temp)):
        _private_folder(folder)
    stack.token.touch(mode=0o600)
    stack.token.write_text(secrets.token_hex(32))
    config = stack.run / "supervisord.conf"
    config.write_text(supervisor_config(stack))
    stack.save()
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
        env=stack.environment(),
        cwd=stack.run,
        stdin=subprocess.DEVNULL,
        capture_output=True,  # ends when it has become a daemon
        text=True,
        start_new_session=True,  # a Ctrl-C in the terminal is not meant for the stack
    )
    if done.returncode:
        raise StackError(f"the supervisor does not start: {(done.stderr or done.stdout).strip()}")
    _await_all(stack, say)


def _migrate(stack: Stack) -> None:
    """Bring the database to this version before two processes need it."""
    opens = "from orchestrator.settings import settings; from orchestrator.records.store import Store; Store(settings().database)"
    done = subprocess.run(
        [sys.executable, "-c", opens],
        env=stack.environment(),
        cwd=stack.run,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise StackError(f"the database {stack.environment()['RETORT_DATABASE_URL']} cannot be opened: {reason[0]}")


def _revive(stack: Stack, say: Say) -> None:
    """Start the parts that the supervisor has given up, and wait until all answer; instant when all is well."""
    parts = status(stack)
    if all(part.well for part in parts):
        return
    for part in parts:
        if part.state in {"FATAL", "EXITED", "STOPPED"}:
            say(f"{part.part.title} was {part.state.lower()}; starting it again")
            with contextlib.suppress(xmlrpc.client.Fault):
                _rpc(stack).supervisor.startProcess(part.part.name, False)
    _await_all(stack, say)


def _await_all(stack: Stack, say: Say) -> None:
    """Return when every part answers. Raises StackError with the log of one that does not."""
    began = time.monotonic()
    waiting = {part.name for part in stack.parts()}
    deaths: dict[str, set[int]] = {name: set() for name in waiting}
    while waiting:
        infos = _process_infos(stack)
        for part in stack.parts():
            if part.name not in waiting or part.name not in infos:
                continue
            info = infos[part.name]
            if info["stop"]:
                deaths[part.name].add(info["stop"])
            if info["statename"] == "FATAL" or len(deaths[part.name]) >= _TRIES:
                reason = info["spawnerr"] or f"exit status {info['exitstatus']}"
                raise StackError(f"{part.title} does not start ({reason}). The end of its log:\n{last_lines(stack, part)}")
            if info["statename"] == "RUNNING" and not _health(stack, part, _readiness(stack)):
                waiting.remove(part.name)
                say(f"{part.title:<13} ready after {time.monotonic() - began:4.1f} s  {part.address or ''}".rstrip())
        if time.monotonic() - began > START_SECONDS:
            late = next(part for part in stack.parts() if part.name in waiting)
            raise StackError(f"{late.title} does not answer after {START_SECONDS} s. The end of its log:\n{last_lines(stack, late)}")
        time.sleep(0.2)


def _process_infos(stack: Stack) -> dict[str, dict[str, Any]]:
    try:
        return {info["name"]: info for info in _rpc(stack).supervisor.getAllProcessInfo()}
    except (OSError, http.client.HTTPException, xmlrpc.client.Error):
        pid = _read_pid(stack.pidfile)
        if pid is not None and not psutil.pid_exists(pid):
            raise StackError(f"the supervisor has ended; see {stack.logs / 'supervisor.log'}") from None
        return {}  # not listening yet


def end(stack: Stack, say: Say) -> None:
    """Stop the supervisor and with it all parts; end what is left; remove what only a running stack needs."""
    mine = _processes_of(stack)
    if mine:
        say("stopping " + ", ".join(part.title for part in reversed(stack.parts())))
    with contextlib.suppress(OSError, http.client.HTTPException, xmlrpc.client.Error):
        _rpc(stack).supervisor.shutdown()
        _gone(lambda: [p for p in mine if p.pid == _read_pid(stack.pidfile) and p.is_running()], STOP_SECONDS)
    # Whatever outlived its parent: Ray's workers after a crash, a driver in its own session.
    for process in _processes_of(stack):
        _signal(process.terminate)
    if not _gone(lambda: _processes_of(stack), 5):
        for process in _processes_of(stack):
            _signal(process.kill)
        if not _gone(lambda: _processes_of(stack), 5):
            left = ", ".join(str(process.pid) for process in _processes_of(stack))
            raise StackError(f"these processes do not end: {left}")
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


def _processes_of(stack: Stack) -> list[psutil.Process]:
    """The living processes that carry this stack's mark, this one and its parents excepted."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in own and process.environ().get("RETORT_STACK") == stack.id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _gone(remaining: Callable[[], list[psutil.Process]], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while remaining():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _signal(send: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        send()


def supervisor_config(stack: Stack) -> str:
    """The configuration of supervisord: each part restarted when it ends, its log kept within 5 x 10 MB."""

    def escaped(text: str) -> str:
        return text.replace("%", "%%")

    lines = [
        "[supervisord]",
        f"logfile = {escaped(str(stack.logs / 'supervisor.log'))}",
        "logfile_maxbytes = 1MB",
        "logfile_backups = 1",
        f"pidfile = {escaped(str(stack.pidfile))}",
        f"identifier = retort-{stack.id}",
        "umask = 077",
        "",
        "[unix_http_server]",
        f"file = {escaped(str(stack.socket))}",
        "chmod = 0700",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for priority, part in enumerate(stack.parts()):
        lines += [
            "",
            f"[program:{part.name}]",
            f"command = {escaped(shlex.join(part.command))}",
            f"directory = {escaped(str(stack.run))}",
            f"priority = {priority}",
            "autorestart = true",
            "startsecs = 1",
            "startretries = 1000",  # a part that fails for an hour still comes back when its cause is gone
            "stopwaitsecs = 20",
            "killasgroup = true",
            "redirect_stderr = true",
            f"stdout_logfile = {escaped(str(stack.logs / f'{part.name}.log'))}",
            "stdout_logfile_maxbytes = 10MB",
            "stdout_logfile_backups = 4",
        ]
    return "\n".join(lines) + "\n"


def _rpc(stack: Stack) -> Any:
    from supervisor.xmlrpc import SupervisorTransport

    return xmlrpc.client.ServerProxy("http://localhost", transport=SupervisorTransport(serverurl=f"unix://{stack.socket}"))


def _health(stack: Stack, part: Part, ready: dict[str, Any] | None) -> str:
    """Empty when the part answers; else what is wrong. The orchestrator has no port: the service tells when it was last seen."""
    if part.name == "api":
        return "does not answer" if ready is None else "" if ready["database"] == "ok" else f"the database {ready['database']}"
    if part.health is None:
        return "unknown while the API does not answer" if ready is None else str(ready["orchestrator"]["trouble"])
    answer = _get(stack, part.health)
    if answer is None:
        return "does not answer"
    return "" if answer.status_code == 200 else f"answers {answer.status_code}: {answer.text[:200]}"


def _readiness(stack: Stack) -> dict[str, Any] | None:
    """What this stack's service says of itself; None where nothing answers, or somebody else."""
    answer = _get(stack, stack.url("api") + "/readyz")
    with contextlib.suppress(ValueError, AttributeError):
        if answer is not None and answer.json().get("stack") == stack.id:
            return dict(answer.json())
    return None


@functools.cache
def _http() -> httpx.Client:
    """One client for all questions: making one costs more than asking."""
    return httpx.Client(timeout=3, trust_env=False)


def _get(stack: Stack, url: str) -> httpx.Response | None:
    headers = {}
    with contextlib.suppress(FileNotFoundError):
        headers = {"Authorization": f"Bearer {stack.token.read_text()}"} if url.startswith(stack.url("dashboard")) else {}
    try:
        return _http().get(url, headers=headers)
    except httpx.HTTPError:
        return None


def _same_ports(stack: Stack, wanted: dict[str, int | None]) -> None:
    other = {name: port for name, port in wanted.items() if port is not None and port != stack.ports[name]}
    if other:
        told = ", ".join(f"{name} on {stack.ports[name]} instead of {port}" for name, port in other.items())
        raise StackError(f"it is already up, with {told}; `retort down` first to change ports")


def _read_pid(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _private_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter. Raises StackError where someone else owns it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise StackError(f"{folder} belongs to another user, or is a link; it must be a folder of yours")


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[None]:
    """One `up` or `down` at a time for a home."""
    with (home / "run" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _choosing_ports() -> Iterator[None]:
    """One stack of a user at a time takes its ports: from looking for free ones until its parts listen there."""
    try:
        file = (Path(tempfile.gettempdir()) / f"retort-{os.getuid()}.lock").open("w")
    except OSError:  # somebody else's file: then two at the same moment may meet, and one of them says so
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
