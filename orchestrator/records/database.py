"""The connection to the database: engine, sessions and clock. What the other records build on.

SQLite and PostgreSQL behave alike here: a unit that writes waits its turn from its first statement.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import sessionmaker

from orchestrator.credentials import database_url
from orchestrator.records.migrations import upgrade
from orchestrator.records.patience import patiently
from orchestrator.storage.files import SharedFolder, TrialFiles
from studies.home import retort_home


def engine_for(url: str) -> Engine:
    """The engine of a database URL. SQLite: write-ahead log, foreign keys, and writers that queue instead of failing.

    A server's password comes from the file of RETORT_DATABASE_PASSWORD_FILE. Raises NoCredentials.
    """
    if not url.startswith("sqlite"):
        return create_engine(database_url(url), pool_pre_ping=True)
    engine = create_engine(url)
    if engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where `begin` below says so
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        # A reader that turned writer would fail at once when another wrote meanwhile; a writer from the start waits its turn.
        writes = connection.get_execution_options().get("retort_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


class Database:
    """The database of one Retort. Opening it brings the schema up to date.

    clock: gives seconds since 1970. patience: for how many seconds a `patient` unit is tried again while the database is locked or away.
    files: those of the trials, of which results may be gone; without: those of this machine's state folder.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time, patience: float = 0.0, files: TrialFiles | None = None) -> None:
        self.engine = engine_for(url)
        self.files = files or SharedFolder(retort_home() / "trials")
        self.patience = patience
        self._clock = clock
        self._reads = sessionmaker(self.engine, expire_on_commit=False)
        # What a unit reads it has not changed before, so that nothing need be flushed before its end.
        self._writes = sessionmaker(self.engine.execution_options(retort_writes=True), expire_on_commit=False, autoflush=False)
        patiently(patience, lambda: upgrade(self.engine))

    def close(self) -> None:
        self.engine.dispose()

    def now(self) -> int:
        """Milliseconds since 1970."""
        return int(self._clock() * 1000)
