"""Alembic's entry: runs the migrations on the connection that `upgrade` opened, or on RETORT_DATABASE_URL for the alembic command."""

from alembic import context
from sqlalchemy import Connection

import orchestrator.access.schema
import orchestrator.webhooks.schema  # noqa: F401  (both for the tables they add)
from orchestrator.records.schema import Base


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    from orchestrator.records.database import engine_for
    from orchestrator.settings import settings

    with engine_for(settings().database).execution_options(retort_writes=True).begin() as opened:
        run(opened)
