"""The papers' tables at a glance, over REST and in the command."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from rich.console import Console

from api.command.views import tables_lines
from orchestrator.records.store import Store
from studies.submission import read_submission
from studies.tables.shipped import table_ids
from tests.api.commands import Commands
from tests.api.conftest import Driver, LiveService

TABLE = "pdf-distil2021/table-1"


def finished(store: Store, table: str) -> int:
    """A study of a shipped table at nano, one seed, trained to its end."""
    study, _ = store.create_study(read_submission({"table": table, "scale": "nano", "seeds": [0]}))
    Driver(store, study.id).train_all()
    return study.id


def test_every_shipped_table_is_told_and_the_newest_study_of_each_counts(service: TestClient, store: Store) -> None:
    assert [item["table"] for item in service.get("/v1/tables").json()["items"]] == list(table_ids())
    assert {item["study"] for item in service.get("/v1/tables").json()["items"]} == {None}
    finished(store, TABLE)
    newest = finished(store, TABLE)
    item = next(item for item in service.get("/v1/tables").json()["items"] if item["table"] == TABLE)
    assert (item["study"], item["scale"], item["seeds"], item["paper"]) == (newest, "nano", 1, "pdf-distil2021")
    assert item["cells"]["not_comparable"] > 0
    assert item["cells"]["reproduced"] == item["cells"]["off"] == 0
    assert item["gains"]["undecided"] > 0  # one seed decides nothing
    assert item["gains"]["holds"] == item["gains"]["contradicted"] == 0


def test_retort_table_all_sums_a_paper_above_its_tables(live: LiveService, store: Store, tmp_path: Path, commands: Commands) -> None:
    study = finished(store, TABLE)
    environment = {**os.environ, "RETORT_URL": live.url, "RETORT_TOKEN": live.token, "RETORT_HOME": str(tmp_path)}

    def retort(*arguments: str) -> subprocess.CompletedProcess[str]:
        return commands.run(*arguments, environment=environment, folder=tmp_path)

    lines = retort("table", "--all").stdout.splitlines()
    mine = next(line for line in lines if line.strip().startswith(f"{TABLE} "))
    assert mine.split()[:4] == [TABLE, "nano", str(study), "1"]
    paper = next(line for line in lines if line.startswith("pdf-distil2021 "))
    assert paper.split()[1:] == mine.split()[1:2] + mine.split()[4:]
    assert "the number of a study, or --all" in retort("table").stderr
    data = json.loads(retort("table", str(study), "--format", "json").stdout)
    assert (data["table"], data["scale"]) == (TABLE, "nano")


def test_sums_are_of_one_scale() -> None:
    cells, gains = (
        dict.fromkeys(("reproduced", "off", "not_comparable", "missing"), 1),
        dict.fromkeys(("holds", "contradicted", "undecided", "missing"), 2),
    )
    run: dict[str, Any] = {"paper": "ld2022", "title": "x", "study": 1, "seeds": 3, "cells": cells, "gains": gains}
    tables = [run | {"table": "ld2022/table-1", "scale": "nano"}, run | {"table": "ld2022/table-2", "scale": "nano"}]
    console = Console(width=200)
    with console.capture() as captured:
        for line in tables_lines(tables):
            console.print(line)
    assert "2 / 2 / 2 / 2" in captured.get().splitlines()[2]
    assert "4 / 4 / 4 / 4" in captured.get().splitlines()[2]
