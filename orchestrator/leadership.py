"""Of several orchestrators on one database one leads and the others wait: what they would do twice is done once.

PostgreSQL: an advisory lock of a session, which ends with its process, and soon after with its machine. SQLite: a lock on a file beside
the database, since all its users are on one machine.
"""

import fcntl
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

_LOCK = 7302  # PostgreSQL's advisory lock of the leader
# A leader whose machine vanished is noticed by the server after 5 + 3 x 5 seconds of silence.
_KEEPALIVE = {"tcp_keepalives_idle": 5, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}


class Leadership:
    """The wish of this process to lead. Not for several threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._file: IO[str] | None = None
        self._connection: Connection | None = None

    def take(self) -> bool:
        """Tries to lead; False while another does. Raises SQLAlchemyError, OSError."""
        return self._lock_session() if self._engine.dialect.name == "postgresql" else self._lock_file()

    def holds(self) -> bool:
        """Whether it leads still: the session that holds the lock may have been lost."""
        if self._connection is None:
            return self._file is not None
        try:
            self._connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            self.leave()
            return False
        return True

    def leave(self) -> None:
        """Lets another lead."""
        if self._connection is not None:
            self._connection.invalidate()  # ends the session; given back to the pool it would keep the lock
            self._connection.close()
        if self._file is not None:
            self._file.close()
        self._connection = self._file = None

    def _lock_session(self) -> bool:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        for name, value in _KEEPALIVE.items():
            connection.execute(text(f"SET {name} = {value}"))
        if connection.execute(text(f"SELECT pg_try_advisory_lock({_LOCK})")).scalar():
            self._connection = connection
            return True
        connection.close()
        return False

    def _lock_file(self) -> bool:
        assert self._engine.url.database
        file = Path(f"{self._engine.url.database}.leader").open("w")  # noqa: SIM115  (open as long as it leads)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        return True
