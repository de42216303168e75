"""The schema's history, applied by every process that opens the database; the first one there does the work.

Alembic is imported only where there is something to migrate: a driver should be up soon. A version's file is named by its revision.
"""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

_LOCK = 7301  # PostgreSQL advisory lock: only one process migrates


def newest() -> str:
    """The newest revision."""
    return max(file.name for file in Path(__file__).with_name("versions").glob("[0-9]*.py")).partition("_")[0]


def upgrade(engine: Engine) -> None:
    """Brings the schema to its newest version; instant when it is there already."""
    with engine.connect() as connection:
        if _version(connection) == newest():
            return
    with engine.execution_options(retort_writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        if _version(connection) != newest():
            _migrate(connection)


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "orchestrator.records:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar())
