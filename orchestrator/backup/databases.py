"""Databases as files: a consistent copy of one that is in use, as SQLite whatever it is, and a server filled from such a file.

Rows are copied by the tables as they are found, so that a server's backup opens on a laptop, needs no program of the server's version, and
can be put back into either kind.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import JSON, Connection, MetaData, Table, bindparam, func, insert, inspect, make_url, select, text, update

from orchestrator.backup.manifest import BackupError
from orchestrator.records.database import engine_for
from orchestrator.records.migrations import upgrade

ROWS = 1000  # at once
SCHEMA_VERSION = "alembic_version"


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database; None for a server's."""
    made = make_url(url)
    return Path(made.database) if made.get_backend_name() == "sqlite" and made.database else None


def reading(file: Path) -> sqlite3.Connection:
    """A connection to a SQLite file that leaves it, and the folder that it is in, as they are."""
    return sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)


def _as_one_file(connection: sqlite3.Connection) -> None:
    """Without a log beside it."""
    connection.execute("PRAGMA journal_mode=DELETE")


def copy_sqlite(source: Path, target: Path) -> None:
    """By SQLite's own online backup: a state that was, whoever writes meanwhile."""
    with contextlib.closing(reading(source)) as read, contextlib.closing(sqlite3.connect(target)) as written:
        read.backup(written)  # in one go: it would begin anew whenever somebody wrote between two; a reader hinders no writer
        _as_one_file(written)


def copy_to_file(url: str, target: Path) -> None:
    """The database of this URL as it is at one moment. Raises BackupError where there is none."""
    if file := sqlite_file(url):
        if not file.exists():
            raise BackupError(
                f"there is no {file}; a backup is made where the service's state is: set RETORT_HOME, or run it in a container"
            )
        copy_sqlite(file, target)
        return
    source, made = engine_for(url), engine_for(f"sqlite:///{target}")
    try:
        upgrade(made)
        at_one_moment = source.connect().execution_options(isolation_level="REPEATABLE READ")
        with at_one_moment as read, made.execution_options(retort_writes=True).begin() as written:
            copy_rows(read, written)
    finally:
        source.dispose()
        made.dispose()
    with contextlib.closing(sqlite3.connect(target)) as connection:
        _as_one_file(connection)


def fill_server(file: Path, url: str) -> None:
    """Fills an empty server with what a file has; in one transaction."""
    source, target = engine_for(f"sqlite:///{file}"), engine_for(url)
    try:
        upgrade(target)
        with source.connect() as read, target.begin() as written:
            copy_rows(read, written)
    finally:
        source.dispose()
        target.dispose()


def copy_rows(read: Connection, written: Connection) -> None:
    """All rows of all tables, and how far each table has counted: ids that were given away are not given again."""
    there, here = MetaData(), MetaData()
    there.reflect(read)
    here.reflect(written)
    for column in (column for table in here.tables.values() for column in table.c if isinstance(column.type, JSON)):
        column.type = JSON(none_as_null=True)
    for table in here.sorted_tables:
        if table.name == SCHEMA_VERSION or table.name not in there.tables:
            continue
        _copy_table(read, written, there.tables[table.name], table)
    _set_counters(written, here, _counters(read, there))


def _copy_table(read: Connection, written: Connection, source: Table, target: Table) -> None:
    """A row may name one of its own table that comes after it (whose results it took), so such names are written last."""
    own = [key.parent.name for key in target.foreign_keys if key.column.table is target]
    order = list(source.primary_key.columns)
    result = read.execution_options(yield_per=ROWS).execute(select(source).order_by(*order))
    for part in result.partitions(ROWS):
        rows = [dict(row._mapping) for row in part]
        written.execute(insert(target), [{**row, **dict.fromkeys(own)} for row in rows])
    for name in own:
        named = read.execute(select(source.c.id, source.c[name]).where(source.c[name].is_not(None))).all()
        if named:
            change = update(target).where(target.c.id == bindparam("of")).values({name: bindparam("to")})
            written.execute(change, [{"of": row[0], "to": row[1]} for row in named])


def _counters(connection: Connection, tables: MetaData) -> dict[str, int]:
    """The last id that each table has given away."""
    if connection.dialect.name == "sqlite":
        return dict(connection.execute(text("SELECT name, seq FROM sqlite_sequence")).tuples().all())
    found = {}
    for name, sequence in _sequences(connection, tables):
        last, called = connection.execute(text(f"SELECT last_value, is_called FROM {sequence}")).one()
        found[name] = int(last) if called else 0
    return found


def _set_counters(connection: Connection, tables: MetaData, counters: dict[str, int]) -> None:
    if connection.dialect.name == "sqlite":
        for name, last in counters.items():
            if (
                connection.execute(text("UPDATE sqlite_sequence SET seq = :last WHERE name = :name"), {"name": name, "last": last}).rowcount
                == 0
            ):
                connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), {"name": name, "last": last})
        return
    for name, sequence in _sequences(connection, tables):
        table = tables.tables[name]
        last = max(counters.get(name, 0), connection.scalar(select(func.max(table.c.id))) or 0)
        if last:
            connection.execute(select(func.setval(sequence, last)))


def _sequences(connection: Connection, tables: MetaData) -> Iterator[tuple[str, str]]:
    """Of a PostgreSQL server: a table whose ids are counted, and the name of its counter."""
    for name, table in tables.tables.items():
        if "id" in table.c:
            sequence = connection.scalar(select(func.pg_get_serial_sequence(name, "id")))
            if sequence:
                yield name, sequence


def revision_of(file: Path) -> str:
    """The schema's version in a database file."""
    with contextlib.closing(reading(file)) as connection:
        return str(connection.execute(f"SELECT version_num FROM {SCHEMA_VERSION}").fetchone()[0])


def is_empty(url: str) -> bool:
    """Whether a server's database has no studies. Raises SQLAlchemyError where it does not answer."""
    engine = engine_for(url)
    try:
        with engine.connect() as connection:
            return not inspect(connection).has_table("study") or not connection.execute(text("SELECT count(*) FROM study")).scalar()
    finally:
        engine.dispose()
