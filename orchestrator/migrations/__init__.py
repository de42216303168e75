"""The schema's history, applied by every process that opens the database; the first one there does the work."""

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

_LOCK = 7301  # PostgreSQL advisory lock: only one process migrates


def upgrade(engine: Engine) -> None:
    """Brings the schema to its newest version; instant when it is there already."""
    config = Config()
    config.set_main_option("script_location", "orchestrator:migrations")
    newest = ScriptDirectory.from_config(config).get_current_head()
    with engine.connect() as connection:
        if _version(connection) == newest:
            return
    with engine.execution_options(retort_writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        if _version(connection) != newest:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
