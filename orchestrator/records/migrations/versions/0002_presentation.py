"""How a study's table is laid out is frozen with the study; that of an older one is its arms in their order."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

DECIMALS = {"Params": 2, "FLOPs": 3, "D_pred": 4}


def upgrade() -> None:
    # Added in place: SQLite's way of altering a table is to drop and make it anew, and what refers to a dropped row is deleted with it.
    op.add_column("study", sa.Column("presentation", sa.JSON(), nullable=False, server_default="{}"))
    connection = op.get_bind()
    study = sa.table("study", sa.column("id"), sa.column("spec", sa.JSON()), sa.column("presentation", sa.JSON()))
    for study_id, spec in connection.execute(sa.select(study.c.id, study.c.spec)).all():
        made = _presentation(connection, study_id, spec if isinstance(spec, dict) else json.loads(spec))
        connection.execute(study.update().where(study.c.id == study_id).values(presentation=made))


def downgrade() -> None:
    op.drop_column("study", "presentation")


def _presentation(connection: sa.Connection, study_id: int, spec: dict[str, Any]) -> dict[str, Any]:
    arm = sa.table("arm", *map(sa.column, ("id", "study_id", "position", "name", "title", "role")), sa.column("detail", sa.JSON()))
    trial = sa.table("trial", *map(sa.column, ("study_id", "arm_id", "position", "name")))
    arms = connection.execute(sa.select(arm).where(arm.c.study_id == study_id).order_by(arm.c.position)).all()
    trials: dict[int, list[str]] = {}
    for row in connection.execute(sa.select(trial).where(trial.c.study_id == study_id).order_by(trial.c.position)).all():
        trials.setdefault(row.arm_id, []).append(row.name)
    rows = []
    for each in arms:
        same = [other for other in arms if other.role == "baseline" and other.detail["network"] == each.detail["network"]]
        alike = [other for other in same if other.detail["schedule"] == each.detail["schedule"]]
        baseline = next((other.name for other in (*alike, *same)), None) if each.role == "distilled" else None
        rows.append({"id": each.name, "title": each.title, "role": each.role, "trials": trials.get(each.id, []), "baseline": baseline})
    uses = [(each.title, use) for each in arms for use in each.detail["distillers"]]
    return {
        "title": spec["name"],
        "columns": [{"metric": metric, "title": metric, "decimals": DECIMALS.get(metric, 1), "better": None} for metric in spec["metrics"]],
        "rows": rows,
        "variants": sorted({f"{title} ({use['options']['variant']})" for title, use in uses if "variant" in use["options"]}),
    }
