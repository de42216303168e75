"""What waiting adds to a priority: since when studies of higher priority have had devices while a study had none."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("study", sa.Column("overtaken", sa.BigInteger(), nullable=True))
    op.add_column("device_grant", sa.Column("points", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("device_grant", "points")
    op.drop_column("study", "overtaken")
