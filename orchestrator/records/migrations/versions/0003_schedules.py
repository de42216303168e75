"""Schedules and what became of their due times."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "schedule",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=True),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("cron", sa.String(length=200), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("misfire", sa.Enum("once", "skip", name="misfire", native_enum=False, length=16), nullable=False),
        sa.Column("overlap", sa.Enum("skip", "queue", "replace", name="overlap", native_enum=False, length=16), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "schedule_run",
        sa.Column("schedule_id", ID, nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column(
            "outcome",
            sa.Enum("submitted", "waiting", "skipped", "replaced", name="outcome", native_enum=False, length=16),
            nullable=False,
        ),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("study_id", ID, nullable=True),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=True),
        sa.Column("against", ID, nullable=True),
        sa.Column("moved", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], name=op.f("fk_schedule_run_schedule_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_schedule_run_study_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["against"], ["study.id"], name=op.f("fk_schedule_run_against"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("schedule_id", "due", name=op.f("pk_schedule_run")),
        sa.UniqueConstraint("study_id", name=op.f("uq_schedule_run_study_id")),
    )
    with op.batch_alter_table("schedule_run", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_schedule_run_outcome_schedule_id"), ["outcome", "schedule_id"], unique=False)


def downgrade() -> None:
    op.drop_table("schedule_run")
    op.drop_table("schedule")
