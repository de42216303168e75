"""What only one process of the whole cluster may do at a time: lead the orchestrators, prepare a dataset.

PostgreSQL: an advisory lock of a session, which ends with its process, and soon after with its machine; no shared folder's locks are
needed. SQLite: a lock on a file beside the database, since all its users are on one machine.
"""

import contextlib
import fcntl
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

_KIND = 7302  # the first half of PostgreSQL's numbers for these locks
SILENCE_SECONDS = 20.0  # after which a holder that says it has the lock, and then says nothing, has it no longer
# A holder whose machine vanished is noticed by the server after as long: by keepalives where its session was idle, by the time that an
# answer may be on its way where it was not.
_VANISHED = {"tcp_keepalives_idle": 5, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3, "tcp_user_timeout": 20_000}


class Lock:
    """The wish of this process to be the only one. Not for several threads."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self._name = engine, name
        self._number = zlib.crc32(name.encode()) - 2**31  # the second half: a signed number of 32 bits
        self._file: IO[str] | None = None
        self._connection: Connection | None = None

    def take(self) -> bool:
        """Tries to take it; False while another has it. Raises SQLAlchemyError, OSError."""
        return self._lock_session() if self._engine.dialect.name == "postgresql" else self._lock_file()

    def holds(self) -> bool:
        """Whether it has it still: the session that holds it may have been lost. Whoever asks has to ask again before SILENCE_SECONDS are
        over: so a process that stands still loses it (PostgreSQL)."""
        if self._connection is None:
            return self._file is not None
        try:
            self._connection.execute(text(f"SET idle_session_timeout = {round(1000 * SILENCE_SECONDS)}"))
        except SQLAlchemyError:
            self.leave()
            return False
        return True

    def leave(self) -> None:
        """Leaves it to another."""
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):  # a session that was lost has left it already
                self._connection.execute(text(f"SELECT pg_advisory_unlock({_KIND}, {self._number})"))
            self._connection.invalidate()  # its keepalives are not for others
            self._connection.close()
        if self._file is not None:
            self._file.close()
        self._connection = self._file = None

    def _lock_session(self) -> bool:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        for name, value in _VANISHED.items():
            connection.execute(text(f"SET {name} = {value}"))
        if connection.execute(text(f"SELECT pg_try_advisory_lock({_KIND}, {self._number})")).scalar():
            self._connection = connection
            return True
        connection.close()
        return False

    def _lock_file(self) -> bool:
        assert self._engine.url.database
        file = Path(f"{self._engine.url.database}.{self._name}.lock").open("w")  # noqa: SIM115  (open as long as it is held)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        return True


@contextmanager
def alone(engine: Engine, name: str, waiting: Callable[[], None], seconds: float = 1.0) -> Iterator[None]:
    """Does the block while no other process does one of this name. waiting: called every so many seconds until then."""
    lock = Lock(engine, name)
    while not lock.take():
        waiting()
        time.sleep(seconds)
    try:
        yield
    finally:
        lock.leave()
