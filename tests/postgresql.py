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

_START_SECONDS = 60
_FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "listen_addresses=", "max_connections=200")


def binaries() -> Path | None:
    """Folder of PostgreSQL's programs, the newest where several are installed; None where none is."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: float(each.parent.name))
    return folders[-1] if folders else None


@contextmanager
def server() -> Iterator[str]:
    """The URL of a database server that lives as long as the block. It loses everything with a crash: nobody will miss it."""
    programs = binaries()
    assert programs, "PostgreSQL is not installed here"
    user = _user()
    folder = Path(tempfile.mkdtemp(prefix="retort-pg-", dir="/tmp"))  # a socket's path must be short
    if user:
        shutil.chown(folder, user)
    options = [argument for each in (*_FAST, f"unix_socket_directories={folder}") for argument in ("-c", each)]
    try:
        initdb = [programs / "initdb", "-D", folder / "data", "-U", "retort", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"]
        subprocess.run(initdb, user=user, cwd=folder, check=True, capture_output=True)
        with (folder / "log").open("w") as log:
            running = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", *options], user=user, cwd=folder, stdout=log, stderr=log
            )
        try:
            _await(folder, running)
            yield f"postgresql+psycopg://retort@/postgres?host={folder}"
        finally:
            running.send_signal(signal.SIGINT)  # disconnects whoever is still there
            try:
                running.wait(timeout=10)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
