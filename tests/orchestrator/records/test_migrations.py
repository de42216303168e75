"""A database of an earlier schema, with studies in it, is brought up to date and shown as it was."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, select, text

from orchestrator.access.tokens import Tokens
from orchestrator.machine import TrialFinished, TrialState
from orchestrator.records import migrations
from orchestrator.records.database import engine_for
from orchestrator.records.store import Store
from orchestrator.reporting.build import build
from orchestrator.reporting.rendering import render
from orchestrator.schedules.store import Schedules

RELEASED = sorted(file.name[:4] for file in Path(migrations.__file__).with_name("versions").glob("[0-9]*.py"))
SPEC = {"name": "an old study", "dataset": "digits", "scale": "nano", "metrics": ["AP", "Params"], "resources": {"cpus": 1, "gpus": 0}}
NETWORK = {"detector": "gfl", "backbone": "resnet18", "width": 8, "form": None}


@contextmanager
def at_schema(url: str, revision: str) -> Iterator[Connection]:
    """A database, brought to a revision of the schema."""
    with engine_for(url).execution_options(retort_writes=True).begin() as connection:
        config = Config()
        config.set_main_option("script_location", "orchestrator.records:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        yield connection


def at_first_schema(url: str) -> None:
    """A database as the first schema had it: a finished study with a teacher, a baseline and LD."""
    with at_schema(url, "0001") as connection:
        study = "INSERT INTO study (id, name, spec, state, stalls, created) VALUES (1, 'an old study', :spec, 'finished', 0, 5)"
        connection.execute(text(study), {"spec": json.dumps(SPEC)})
        ld = [{"id": "ld", "weight": 1.0, "options": {"variant": "code"}}]
        for number, (name, role, distillers, ap) in enumerate(
            (("teacher-gfl-resnet34", "teacher", [], 72.5), ("student", "baseline", [], 50.0), ("ld", "distilled", ld, 53.0)), start=1
        ):
            detail = {"network": NETWORK, "schedule": {"epochs": 2}, "distillers": distillers, "teacher": None, "values": {}}
            arm = {"id": number, "name": name, "title": name, "role": role, "detail": json.dumps(detail)}
            columns = "(id, study_id, position, name, title, role, detail)"
            connection.execute(text(f"INSERT INTO arm {columns} VALUES (:id, 1, :id, :name, :title, :role, :detail)"), arm)
            trial = {"id": number, "name": f"{name}/seed-0", "title": f"{name}/seed-0", "role": role}
            trial["metrics"] = json.dumps({"AP": ap, "Params": 0.25})
            connection.execute(
                text(
                    "INSERT INTO trial (id, study_id, arm_id, position, name, title, role, seed, state, losses, epoch, metrics) "
                    "VALUES (:id, 1, :id, :id, :name, :title, :role, 0, 'finished', 0, 2, :metrics)"
                ),
                trial,
            )


def rows_of(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """All that is in the database, by table."""
    tables = MetaData()
    tables.reflect(connection)
    ours = [table for table in tables.sorted_tables if table.name != "alembic_version"]
    return {table.name: [dict(row) for row in connection.execute(select(table)).mappings()] for table in ours}


def fill(connection: Connection) -> None:
    """Puts a row into every table that has none: what its columns take, and the first of what they refer to."""
    tables = MetaData()
    tables.reflect(connection)
    something: dict[type, Any] = {int: 1, float: 1.5, str: "1", bool: False}  # the rest is JSON
    empty = {name for name, rows in rows_of(connection).items() if not rows}
    for table in tables.sorted_tables:
        if table.name in empty:
            row = {each.name: 1 if each.foreign_keys else something.get(each.type.python_type, {}) for each in table.columns}
            connection.execute(table.insert().values(row))


def test_a_database_from_before_there_were_owners_keeps_its_studies_and_schedules(url: str) -> None:
    at_first_schema(url)
    with at_schema(url, "0004") as connection:
        columns = "(id, name, document, spec, cron, zone, misfire, overlap, paused, due, created)"
        schedule = f"INSERT INTO schedule {columns} VALUES (1, 'weekly', '{{}}', :spec, '0 2 * * 6', 'UTC', 'once', 'skip', :no, 9, 5)"
        connection.execute(text(schedule), {"spec": json.dumps(SPEC), "no": False})
        event = "INSERT INTO event (study_id, kind, data, time) VALUES (1, 'note', '{\"text\": \"old\"}', 5)"
        connection.execute(text(event))
    store = Store(url)
    assert (store.study(1).name, store.study(1).owner) == ("an old study", None)
    assert [schedule.owner for schedule in Schedules(store).all()] == [None]
    assert [event.data["text"] for event in store.events(1)] == ["old"]
    assert len(store.trials(1)) == 3
    assert Tokens(store).all() == []
    store.close()


@pytest.mark.parametrize("released", RELEASED)
def test_whatever_was_in_a_released_schema_is_there_still_and_an_old_study_is_shown_as_it_was(url: str, released: str) -> None:
    at_first_schema(url)
    with at_schema(url, released) as connection:
        fill(connection)
        before = rows_of(connection)
    store = Store(url)
    with store.engine.connect() as connection:
        after = rows_of(connection)
    if released < "0006":
        del before["lease"]  # nobody's any more: those that held one then have no number to prove it by
    for name, rows in before.items():
        assert rows
        assert [{column: row[column] for column in rows[0]} for row in after[name]] == rows
    presentation = store.presentation(1)
    assert [(row.id, row.role, row.trials, row.baseline) for row in presentation.rows] == [
        ("teacher-gfl-resnet34", "teacher", ("teacher-gfl-resnet34/seed-0",), None),
        ("student", "baseline", ("student/seed-0",), None),
        ("ld", "distilled", ("ld/seed-0",), "student"),
    ]
    assert presentation.variants == ("ld (code)",)
    told = render(build(store.study(1), presentation, store.trials(1)), "md")
    assert "53.0 (+3.0)" in told
    assert "72.5" in told
    store.close()


def test_a_study_that_was_under_way_is_counted_and_its_trials_know_what_they_lack(url: str) -> None:
    with at_schema(url, "0004") as connection:
        study = "INSERT INTO study (id, name, spec, state, stalls, created) VALUES (1, 'under way', :spec, 'running', 0, 5)"
        connection.execute(text(study), {"spec": json.dumps(SPEC)})
        arm = "INSERT INTO arm (id, study_id, position, name, title, role, detail) VALUES (1, 1, 0, 'a', 'a', 'baseline', '{}')"
        connection.execute(text(arm))
        d_pred = {"kind": "d_pred", "detector": "ld", "options": {}, "distillers": []}
        rows = [
            ("teacher", "finished", None, None),
            ("other", "running", None, None),
            ("ld", "ready", "teacher", None),
            ("fitnet", "waiting", "other", None),
            ("d_pred", "waiting", "other", json.dumps(d_pred)),
        ]
        for number, (name, state, teacher, measurement) in enumerate(rows, start=1):
            connection.execute(
                text(
                    "INSERT INTO trial "
                    "(id, study_id, arm_id, position, name, title, role, seed, state, losses, epoch, teacher, measurement) "
                    "VALUES (:id, 1, 1, :id, :name, :title, 'distilled', 0, :state, 0, 0, :teacher, :measurement)"
                ),
                {"id": number, "name": name, "title": name, "state": state, "teacher": teacher, "measurement": measurement},
            )
        lease = "INSERT INTO lease (folder, trial_id, study_id, heartbeat) VALUES ('key', 2, 1, 5)"
        connection.execute(text(lease))
    store = Store(url)
    assert store.counts(1) == {TrialState.FINISHED: 1, TrialState.RUNNING: 1, TrialState.READY: 1, TrialState.WAITING: 2}
    assert [(trial.name, trial.lacking, trial.fence) for trial in store.trials(1)] == [
        ("teacher", 0, None),
        ("other", 0, None),
        ("ld", 0, None),
        ("fitnet", 1, None),
        ("d_pred", 2, None),
    ]
    with store._unit(1) as unit:
        unit.advance(TrialFinished("other"))
    assert [trial.state for trial in store.trials(1) if trial.name in ("fitnet", "d_pred")] == [TrialState.READY, TrialState.WAITING]
    store.close()
