"""A PostgreSQL server for the tests: their own, on a unix socket in a folder of their own, as a user without privileges."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_START_SECONDS = 60
_FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "listen_addresses=", "max_connections=200")


def binaries() -> Path | None:
    """Folder of PostgreSQL's programs, the newest where several are installed; None where none is."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: float(each.parent.name))
    return folders[-1] if folders else None


class Server:
    """A database server in a folder of its own; it loses everything with a crash: nobody will miss it."""

    def __init__(self, folder: Path) -> None:
        programs = binaries()
        assert programs, "PostgreSQL is not installed here"
        self.folder, self._programs, self._user = folder, programs, _user()
        self.url = f"postgresql+psycopg://retort@/postgres?host={folder}"
        if self._user:
            shutil.chown(folder, self._user)
        initdb = [programs / "initdb", "-D", folder / "data", "-U", "retort", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"]
        subprocess.run(initdb, user=self._user, cwd=folder, check=True, capture_output=True)

    def start(self) -> None:
        """Returns when it answers."""
        options = [argument for each in (*_FAST, f"unix_socket_directories={self.folder}") for argument in ("-c", each)]
        command = [self._programs / "postgres", "-D", self.folder / "data", *options]
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(command, user=self._user, cwd=self.folder, stdout=log, stderr=log)
        _await(self.folder, self._process)

    def stop(self) -> None:
        """Disconnects whoever is there."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Its connections stay and say nothing."""
        for process in self._all():
            process.suspend()

    def thaw(self) -> None:
        """After `freeze`."""
        for process in self._all():
            process.resume()

    def _all(self) -> list[psutil.Process]:
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]


@contextmanager
def running() -> Iterator[Server]:
    """A server that lives as long as the block."""
    folder = Path(tempfile.mkdtemp(prefix="retort-pg-", dir="/tmp"))  # a socket's path must be short
    try:
        started = Server(folder)
        started.start()
        try:
            yield started
        finally:
            started.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server that lives as long as the block."""
    with running() as started:
        yield started.url


def _user() -> str | None:
    """Whom the server runs as: this user, or where that is root, which PostgreSQL refuses, one without privileges."""
    if os.geteuid():
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _await(folder: Path, running: subprocess.Popen[bytes]) -> None:
    import psycopg

    patience = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(host=str(folder), user="retort", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            assert running.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < patience, (folder / "log").read_text()
            time.sleep(0.05)
