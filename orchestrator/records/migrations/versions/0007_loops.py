"""Loops of the service tell how long their rounds take and how many have failed."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("heartbeat", sa.Column("seconds", sa.Float(), nullable=False, server_default="0"))
    op.add_column("heartbeat", sa.Column("troubles", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("heartbeat", "troubles")
    op.drop_column("heartbeat", "seconds")
