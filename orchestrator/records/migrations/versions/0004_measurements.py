"""Measurements of finished trainings are jobs beside them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("trial", sa.Column("measurement", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.execute(sa.text("DELETE FROM trial WHERE role = 'measurement'"))
    op.drop_column("trial", "measurement")
