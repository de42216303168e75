"""A trial that runs keeps its last sign of life inside an epoch."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("trial", sa.Column("sign", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("trial", "sign")
