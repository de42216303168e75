"""Trials are counted per study and know what they lack, so that no event reads a whole study; leases have fencing numbers."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("study", sa.Column("counts", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("trial", sa.Column("lacking", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("trial", sa.Column("fence", sa.BigInteger(), nullable=True))
    op.add_column("outbox", sa.Column("tries", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("outbox", sa.Column("trouble", sa.String(length=300), nullable=True))
    _indexes()
    _leases()
    op.create_table(
        "need",
        sa.Column("needed_id", ID, nullable=False),
        sa.Column("trial_id", ID, nullable=False),
        sa.ForeignKeyConstraint(["needed_id"], ["trial.id"], name=op.f("fk_need_needed_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name=op.f("fk_need_trial_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("needed_id", "trial_id", name=op.f("pk_need")),
    )
    op.create_index(op.f("ix_need_trial_id"), "need", ["trial_id"])
    connection = op.get_bind()
    _needs(connection)
    _counts(connection)


def _indexes() -> None:
    op.drop_index("ix_trial_study_id", "trial")
    op.drop_index("ix_trial_key_state", "trial")
    op.drop_index("ix_trial_state_finished", "trial")
    op.create_index("ix_trial_key", "trial", ["key"])
    op.create_index("ix_trial_finished", "trial", ["finished"])
    op.create_index("ix_trial_study_id_position", "trial", ["study_id", "position"])
    op.create_index("ix_trial_study_id_state_position_role", "trial", ["study_id", "state", "position", "role"])
    op.create_index("ix_attempt_ended", "attempt", ["ended"])
    op.create_index("ix_outbox_trouble_study_id_id", "outbox", ["trouble", "study_id", "id"])


def _leases() -> None:
    """Nothing refers to a lease, so the table is made anew; a driver that holds one takes it again at its next start."""
    op.drop_table("lease")
    op.create_table(
        "lease",
        sa.Column("id", ID, nullable=False),
        sa.Column("folder", sa.String(length=255), nullable=False),
        sa.Column("trial_id", ID, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("heartbeat", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name=op.f("fk_lease_trial_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_lease_study_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lease")),
        sa.UniqueConstraint("folder", name=op.f("uq_lease_folder")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_lease_study_id"), "lease", ["study_id"])


def _needs(connection: sa.Connection) -> None:
    trial = sa.table("trial", *map(sa.column, ("id", "study_id", "name", "teacher", "state")), sa.column("measurement", sa.JSON()))
    need = sa.table("need", sa.column("needed_id"), sa.column("trial_id"))
    rows = connection.execute(sa.select(trial.c.id, trial.c.study_id, trial.c.name, trial.c.teacher, trial.c.measurement)).all()
    ids = {(row.study_id, row.name): row.id for row in rows}
    pairs = set()
    for row in rows:
        for name in ((row.measurement or {}).get("detector"), row.teacher):
            if (row.study_id, name) in ids:
                pairs.add((ids[row.study_id, name], row.id))
    if pairs:
        connection.execute(sa.insert(need), [{"needed_id": needed, "trial_id": trial_id} for needed, trial_id in sorted(pairs)])
    connection.execute(
        sa.text(
            "UPDATE trial SET lacking = (SELECT count(*) FROM need JOIN trial AS needed ON needed.id = need.needed_id "
            "WHERE need.trial_id = trial.id AND needed.state NOT IN ('finished', 'cached'))"
        )
    )


def _counts(connection: sa.Connection) -> None:
    study = sa.table("study", sa.column("id"), sa.column("counts", sa.JSON()))
    found: dict[int, dict[str, int]] = {}
    for study_id, state, count in connection.execute(sa.text("SELECT study_id, state, count(*) FROM trial GROUP BY study_id, state")):
        found.setdefault(study_id, {})[state] = count
    for study_id, counts in found.items():
        connection.execute(study.update().where(study.c.id == study_id).values(counts=counts))


def downgrade() -> None:
    for index in ("ix_trial_key", "ix_trial_finished", "ix_trial_study_id_position", "ix_trial_study_id_state_position_role"):
        op.drop_index(index, "trial")
    op.drop_index("ix_attempt_ended", "attempt")
    op.drop_index("ix_outbox_trouble_study_id_id", "outbox")
    op.create_index("ix_trial_study_id", "trial", ["study_id"])
    op.create_index("ix_trial_key_state", "trial", ["key", "state"])
    op.create_index("ix_trial_state_finished", "trial", ["state", "finished"])
    op.drop_table("need")
    op.drop_table("lease")
    op.create_table(
        "lease",
        sa.Column("folder", sa.String(length=255), nullable=False),
        sa.Column("trial_id", ID, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("heartbeat", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name=op.f("fk_lease_trial_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_lease_study_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("folder", name=op.f("pk_lease")),
    )
    op.create_index(op.f("ix_lease_study_id"), "lease", ["study_id"])
    for table, column in (("outbox", "trouble"), ("outbox", "tries"), ("trial", "fence"), ("trial", "lacking"), ("study", "counts")):
        op.drop_column(table, column)
