"""A database of an earlier schema, with studies in it, is brought up to date and shown as it was."""

import json

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from orchestrator.access.tokens import Tokens
from orchestrator.reporting.build import build
from orchestrator.reporting.rendering import render
from orchestrator.schedules.store import Schedules
from orchestrator.store import Store, engine_for

SPEC = {"name": "an old study", "dataset": "digits", "scale": "nano", "metrics": ["AP", "Params"], "resources": {"cpus": 1, "gpus": 0}}
NETWORK = {"detector": "gfl", "backbone": "resnet18", "width": 8, "form": None}


def at_schema(url: str, revision: str) -> None:
    """Bring a database to a revision of the schema."""
    with engine_for(url).execution_options(retort_writes=True).begin() as connection:
        config = Config()
        config.set_main_option("script_location", "orchestrator:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def at_first_schema(url: str) -> None:
    """A database as the first schema had it: a finished study with a teacher, a baseline and LD."""
    at_schema(url, "0001")
    with engine_for(url).execution_options(retort_writes=True).begin() as connection:
        study = "INSERT INTO study (id, name, spec, state, stalls, created) VALUES (1, 'an old study', :spec, 'finished', 0, 5)"
        connection.execute(text(study), {"spec": json.dumps(SPEC)})
        ld = [{"id": "ld", "weight": 1.0, "options": {"variant": "code"}}]
        for number, (name, role, distillers, ap) in enumerate(
            (("teacher-gfl-resnet34", "teacher", [], 72.5), ("student", "baseline", [], 50.0), ("ld", "distilled", ld, 53.0)), start=1
        ):
            detail = {"network": NETWORK, "schedule": {"epochs": 2}, "distillers": distillers, "teacher": None, "values": {}}
            arm = {"id": number, "name": name, "role": role, "detail": json.dumps(detail)}
            columns = "(id, study_id, position, name, title, role, detail)"
            connection.execute(text(f"INSERT INTO arm {columns} VALUES (:id, 1, :id, :name, :name, :role, :detail)"), arm)
            trial = {"id": number, "name": f"{name}/seed-0", "role": role, "metrics": json.dumps({"AP": ap, "Params": 0.25})}
            connection.execute(
                text(
                    "INSERT INTO trial (id, study_id, arm_id, position, name, title, role, seed, state, losses, epoch, metrics) "
                    "VALUES (:id, 1, :id, :id, :name, :name, :role, 0, 'finished', 0, 2, :metrics)"
                ),
                trial,
            )


def test_a_database_from_before_there_were_owners_keeps_its_studies_and_schedules(url: str) -> None:
    at_first_schema(url)
    at_schema(url, "0004")
    with engine_for(url).execution_options(retort_writes=True).begin() as connection:
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


def test_an_old_study_is_shown_as_it_was(url: str) -> None:
    at_first_schema(url)
    store = Store(url)
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
