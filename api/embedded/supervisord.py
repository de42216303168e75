"""supervisord for a stack: its configuration, its start, and questions to it that never wait for ever."""

import contextlib
import http.client
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

import psutil

from api.embedded.processes import stands_still
from api.embedded.stack import Stack, StackError

ANSWER_SECONDS = 10.0  # a supervisor that is stopped keeps its socket open and says nothing
BECOMING_SECONDS = 120.0  # a daemon, on a machine that may be busy
LAUNCH_SECONDS = 20.0
WAITING_SECONDS = 40.0  # for calls that end a part: it has stopwaitsecs to end by itself
NO_ANSWER = (OSError, http.client.HTTPException, xmlrpc.client.Error)


def configuration(stack: Stack) -> str:
    """Each part is restarted when it ends, its log kept within 5 x 10 MB."""

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
            f"command = {escaped(shlex.join([sys.executable, '-m', 'api.embedded.part', part.name, *part.command]))}",
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


def launch(stack: Stack) -> None:
    """Starts the supervisor and with it every part. Raises StackError."""
    config = stack.run / "supervisord.conf"
    config.write_text(configuration(stack))
    stack.socket.unlink(missing_ok=True)  # of one that was killed
    try:
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
            env=stack.environment(),
            cwd=stack.run,
            stdin=subprocess.DEVNULL,
            capture_output=True,  # ends when it has become a daemon
            text=True,
            start_new_session=True,  # a Ctrl-C in the terminal is not meant for the stack
            timeout=BECOMING_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise StackError(f"the supervisor does not start within {BECOMING_SECONDS:.0f} s") from None
    if done.returncode:
        raise StackError(f"the supervisor does not start: {(done.stderr or done.stdout).strip()}")
    deadline = time.monotonic() + LAUNCH_SECONDS
    while process(stack) is None and time.monotonic() < deadline:
        time.sleep(0.05)  # until it has written its number, another watchdog would take it for gone


def rpc(stack: Stack, seconds: float = ANSWER_SECONDS) -> Any:
    """The supervisor's own interface. It, and each call, raises one of NO_ANSWER where none comes within so many seconds."""
    from supervisor.xmlrpc import SupervisorTransport, UnixStreamHTTPConnection

    found = process(stack)
    if found and stands_still(found):
        raise ConnectionRefusedError(f"the supervisor (process {found.pid}) stands still")

    class Patient(UnixStreamHTTPConnection):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(seconds)

    transport = SupervisorTransport(serverurl=f"unix://{stack.socket}")

    def connection() -> Patient:
        made = Patient("localhost")
        made.socketfile = str(stack.socket)
        return made

    transport._get_connection = connection
    return xmlrpc.client.ServerProxy("http://localhost", transport=transport).supervisor


def answers(stack: Stack) -> bool:
    """Whether the supervisor of this stack is alive."""
    try:
        return str(rpc(stack).getState()["statename"]) == "RUNNING"
    except NO_ANSWER:
        return False


def process_infos(stack: Stack) -> dict[str, dict[str, Any]]:
    """What the supervisor knows of each part, by name; empty while it does not answer."""
    with contextlib.suppress(*NO_ANSWER):
        return {info["name"]: info for info in rpc(stack).getAllProcessInfo()}
    return {}


def process(stack: Stack) -> psutil.Process | None:
    """The supervisor's process, if it lives."""
    try:
        found = psutil.Process(int(stack.pidfile.read_text()))
        mine = found.environ().get("RETORT_STACK") == stack.id and found.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, ValueError, psutil.Error, OSError):
        return None
    return found if mine else None


def last_lines(stack: Stack, part: str, count: int = 20) -> str:
    """The end of a part's log."""
    try:
        text = Path(stack.logs / f"{part}.log").read_text(errors="replace")
    except FileNotFoundError:
        return "(it has written no log)"
    return "\n".join(text.splitlines()[-count:])
