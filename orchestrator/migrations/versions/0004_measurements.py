"""Measurements of finished trainings are jobs beside them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("trial") as batch:
        batch.add_column(sa.Column("measurement", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.execute(sa.text("DELETE FROM trial WHERE role = 'measurement'"))
    with op.batch_alter_table("trial") as batch:
        batch.drop_column("measurement")
