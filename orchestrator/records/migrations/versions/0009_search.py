"""Searches: whether a study's search may add trials yet, and the combinations that were tried, in the order of their drawing and ends."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("study", sa.Column("searching", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "suggestion",
        sa.Column("study_id", ID, nullable=False),
        sa.Column("arm", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("row", sa.String(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("trials", sa.JSON(), nullable=False),
        sa.Column("asked", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("goals", sa.JSON(), nullable=True),
        sa.Column("epochs", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_suggestion_study_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study_id", "arm", "number", name=op.f("pk_suggestion")),
    )


def downgrade() -> None:
    op.drop_table("suggestion")
    op.drop_column("study", "searching")
