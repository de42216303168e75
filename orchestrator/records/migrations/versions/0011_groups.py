"""Trials of one teacher may share devices, as a group."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("device_grant") as table:
        table.add_column(sa.Column("members", sa.BigInteger(), nullable=False, server_default="1"))
        table.add_column(sa.Column("beside", ID, nullable=True))
        table.create_foreign_key("fk_device_grant_beside", "trial", ["beside"], ["id"], ondelete="CASCADE")
        table.create_index("ix_device_grant_beside", ["beside"])


def downgrade() -> None:
    with op.batch_alter_table("device_grant") as table:
        table.drop_index("ix_device_grant_beside")
        table.drop_constraint("fk_device_grant_beside", type_="foreignkey")
        table.drop_column("beside")
        table.drop_column("members")
