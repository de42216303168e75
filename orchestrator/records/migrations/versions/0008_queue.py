"""A queue: priorities and pauses of studies, granted devices, why studies wait, and owners with quotas and what they have used."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("study", sa.Column("priority", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("study", sa.Column("paused", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "device_grant",
        sa.Column("trial_id", ID, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("nodes", sa.JSON(), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.Column("leaving", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name=op.f("fk_device_grant_trial_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_device_grant_study_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trial_id", name=op.f("pk_device_grant")),
    )
    op.create_index(op.f("ix_device_grant_study_id"), "device_grant", ["study_id"])
    op.create_table(
        "place",
        sa.Column("study_id", ID, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("expected", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_place_study_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study_id", name=op.f("pk_place")),
    )
    op.create_table(
        "owner",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("devices", sa.Double(), nullable=True),
        sa.Column("hours", sa.Double(), nullable=True),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("used", sa.Double(), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("month_hours", sa.Double(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_owner")),
    )
    # What runs now was never granted, and goes on: where it is the broker will see when it looks for room.
    op.execute(
        "INSERT INTO device_grant (trial_id, study_id, nodes, granted) "
        "SELECT id, study_id, '[]', coalesce(started, 0) FROM trial WHERE state = 'running'"
    )


def downgrade() -> None:
    for table in ("owner", "place", "device_grant"):
        op.drop_table(table)
    op.drop_column("study", "paused")
    op.drop_column("study", "priority")
