"""A Retort is copied while it runs and put back elsewhere, where the same study is all there; what is damaged or not empty is refused."""

import functools
import hashlib
import json
import shutil
import sqlite3
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from sqlalchemy import MetaData, select, text

from orchestrator.backup import write
from orchestrator.backup.manifest import MANIFEST, BackupError
from orchestrator.backup.restore import UNFINISHED, restore
from orchestrator.backup.write import back_up
from orchestrator.driving.graph import Graph
from orchestrator.machine import StudyState, TrialState
from orchestrator.records.database import engine_for
from orchestrator.records.leases import Claim
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from studies.spec import StudySpec
from studies.submission import as_submission
from studies.trial import LAST_STATE, TrialSpec
from tests.orchestrator.conftest import ALONE, TEACHER, Driven, a_study, graph_of, next_of
from tests.orchestrator.driving.test_driver import drive
from workers.datasets import prepare
from workers.files import file_sha256
from workers.training.progress import EpochReport
from workers.training.trial import run_trial

ARMS = [{"id": "fitnet", "distiller": "fitnet"}]
SMOKE = a_study(scale="smoke", schedule={"epochs": 1, "max_iterations": 1}, arms=ARMS)  # two trainings of one step


@pytest.fixture
def settings(tmp_path: Path, url: str) -> Settings:
    home = tmp_path / "home"
    home.mkdir()
    return Settings(home, url, "", "", "", "", 1)


def a_home(tmp_path: Path, name: str) -> Settings:
    home = tmp_path / name
    return Settings(home, f"sqlite:///{home}/retort.db", "", "", "", "", 1)


def results(store: Store, study: int) -> list[tuple[str, object, str | None]]:
    return [(trial.name, trial.metrics, trial.checkpoint_sha256) for trial in store.trials(study)]


def train(driven: Driven, spec: StudySpec, data: Path) -> None:
    """Trains a study for real, in this process."""
    graph = graph_of(driven, spec, prepare("digits", data))
    while not graph.settle():
        order = next_of(graph)
        assert order
        graph.started(order.trial)
        report = functools.partial(reported, graph, order.trial)
        done = run_trial(TrialSpec.model_validate(order.spec), Path(order.folder), data, report)
        result = asdict(done) | {"checkpoint": str(done.checkpoint), "best_checkpoint": str(done.best_checkpoint)}
        graph.reported(order.trial, {"result": result})
    driven.store.conclude(driven.id, driven.attempt)


def reported(graph: Graph, trial: str, epoch: EpochReport) -> None:
    graph.reported(trial, asdict(epoch))


def test_a_trained_study_is_all_cached_where_it_was_restored(data: Path, tmp_path: Path) -> None:
    old, new = a_home(tmp_path, "old"), a_home(tmp_path, "new")
    store = Store(old.database)
    driven = Driven.start(store, old.home, SMOKE)
    train(driven, SMOKE, data)
    before = results(store, driven.id)
    assert back_up(old, tmp_path / "backup").missing == []
    store.close()
    shutil.rmtree(old.home)  # nothing is read from where it was

    restore(new, tmp_path / "backup")
    (new.home / "data").symlink_to(data)
    there = Store(new.database)
    assert results(there, driven.id) == before
    for trial in there.trials(driven.id):
        assert trial.checkpoint
        assert Path(trial.checkpoint).parent.parent == new.trials
        assert file_sha256(Path(trial.checkpoint)) == trial.checkpoint_sha256
        assert not (Path(trial.checkpoint).parent / LAST_STATE).exists()
    study, _ = there.create_study(as_submission(SMOKE))
    assert there.new_attempt(study.id)
    ended = drive(study.id, 1, new.home, new.database)  # no cluster is there: it needs none
    assert ended.returncode == 0, ended.stderr
    assert there.study(study.id).state == StudyState.FINISHED
    assert [(trial.name, trial.state) for trial in there.trials(study.id)] == [(name, TrialState.CACHED) for name, *_ in before]
    there.close()


@pytest.fixture
def filled(store: Store, settings: Settings) -> Driven:
    """A study of which the teacher is trained and the student alone is running, and another that took the teacher's results."""
    driven = Driven.start(store, settings.home)
    driven.begin(TEACHER, "teachers-key")
    driven.epoch(TEACHER, 1)
    driven.epoch(TEACHER, 2)
    folder = settings.trials / "teachers-key"
    for name, content in (("model.pth", b"weights"), ("best.pth", b"best"), ("result.json", b"{}"), (LAST_STATE, b"state"), ("lock", b"")):
        write_file(folder / name, content)
    driven.store.finish_trial(
        driven.id,
        driven.attempt,
        TEACHER,
        fence=driven.fences[TEACHER],
        metrics={"AP": 20.0},
        checkpoint=str(folder / "model.pth"),
        checkpoint_sha256=hashlib.sha256(b"weights").hexdigest(),
        best_checkpoint=str(folder / "best.pth"),
        seconds=30.0,
        environment={"torch": "2"},
    )
    driven.begin(ALONE, "students-key")
    write_file(settings.trials / "students-key" / LAST_STATE, b"state")
    other = Driven.start(store, settings.home)
    assert other.claim(TEACHER, "teachers-key") == Claim.CACHED
    write_file(settings.home / "datasets" / "pets.yaml", b"name: pets")
    return driven


def write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


KEPT = {"retort.db", "datasets/pets.yaml", *(f"trials/teachers-key/{name}" for name in ("model.pth", "best.pth", "result.json"))}


def test_a_backup_holds_what_results_need_and_nothing_else(filled: Driven, settings: Settings, tmp_path: Path) -> None:
    made = back_up(settings, tmp_path / "backup")
    assert set(made.files) == KEPT
    assert files(tmp_path / "backup") == KEPT | {MANIFEST}
    assert (tmp_path / "backup").stat().st_mode & 0o77 == 0
    assert {entry.name for entry in tmp_path.iterdir()} >= {"backup"}
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith("backup.")]


def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Everything in a database."""
    engine = engine_for(url)
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        found = {table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=str) for table in tables.sorted_tables}
    engine.dispose()
    return found


def test_the_database_comes_back_row_for_row_and_gives_no_id_twice(
    filled: Driven, settings: Settings, store: Store, url: str, tmp_path: Path
) -> None:
    back_up(settings, tmp_path / "backup")
    before = rows(url)
    new = a_home(tmp_path, "new")
    if not url.startswith("sqlite"):  # back into a server, emptied meanwhile
        store.close()
        with store.engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        new = replace(new, database=url)
    restore(new, tmp_path / "backup")
    after = rows(new.database)
    assert before.keys() == after.keys()
    there = {name: found for name, found in after.items() if name not in ("trial", "outbox")}
    assert there == {name: before[name] for name in there}
    assert len(after["trial"]) == len(before["trial"])
    opened = Store(new.database)
    driven = Driven(opened, filled.id, new.home, filled.attempt, dict(filled.fences))
    assert driven.trial(TEACHER).checkpoint == str(new.trials / "teachers-key" / "model.pth")
    assert driven.trial(TEACHER).best_checkpoint == str(new.trials / "teachers-key" / "best.pth")
    opened.end_attempt(driven.id, 1, "Ray no longer knows it")  # what the service finds of an attempt that it never started
    again = opened.new_attempt(driven.id)
    assert again
    opened.start_attempt(driven.id, again.number)
    driven.attempt = again.number
    assert driven.claim(ALONE, "students-key") == Claim.HELD
    assert driven.fences[ALONE] > max(filled.fences.values())  # of leases that are long over, too
    opened.close()


def test_mlflow_is_told_everything_anew_where_its_files_are_not_in_the_backup(filled: Driven, settings: Settings, tmp_path: Path) -> None:
    store = filled.store
    store.set_study_run(filled.id, "1", "run of the study")
    teacher = filled.trial(TEACHER)
    store.set_trial_run(teacher.id, "run of the teacher", teacher.key)
    store.sent([row.id for row in store.outbox()])
    back_up(settings, tmp_path / "backup")
    new = a_home(tmp_path, "new")
    restore(new, tmp_path / "backup")
    there = Store(new.database)
    assert [(row.study_id, row.trial_id, row.epoch) for row in there.outbox()] == [(filled.id, teacher.id, None), (filled.id, None, None)]
    there.close()


def test_mlflows_files_come_along_while_it_writes(filled: Driven, settings: Settings, tmp_path: Path) -> None:
    folder = settings.home / "mlflow"
    write_file(folder / "artifacts" / "1" / "table.md", b"| AP |")
    with sqlite3.connect(folder / "mlflow.db") as mlflow:
        mlflow.execute("PRAGMA journal_mode=WAL")
        mlflow.execute("CREATE TABLE runs (name TEXT)")
        mlflow.execute("INSERT INTO runs VALUES ('one')")
    mlflow.execute("INSERT INTO runs VALUES ('not committed')")
    assert back_up(settings, tmp_path / "backup").mlflow
    mlflow.close()
    new = a_home(tmp_path, "new")
    restore(new, tmp_path / "backup")
    with sqlite3.connect(new.home / "mlflow" / "mlflow.db") as there:
        assert there.execute("SELECT name FROM runs").fetchall() == [("one",)]
    assert (new.home / "mlflow" / "artifacts" / "1" / "table.md").read_bytes() == b"| AP |"


def test_a_backup_is_of_one_moment_however_much_is_written_meanwhile(filled: Driven, settings: Settings, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            filled.store.note(filled.id, "a word")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            back_up(settings, tmp_path / f"backup-{number}")
    finally:
        stop.set()
        writer.join()
    counts = []
    for number in range(3):
        with sqlite3.connect(tmp_path / f"backup-{number}" / "retort.db") as copy:
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            last, count = copy.execute("SELECT max(id), count(*) FROM event").fetchone()
            assert last == count  # none before the last is missing
            counts.append(count)
    assert counts == sorted(counts)
    assert counts[-1] <= len(filled.store.events(filled.id, limit=10**6)) + len(filled.store.events(filled.id + 1))


def test_a_backup_replaces_nothing_and_leaves_nothing_half_made(
    filled: Driven, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backup"
    back_up(settings, target)
    with pytest.raises(BackupError, match="a backup replaces nothing"):
        back_up(settings, target)
    (tmp_path / "killed.partial").mkdir()
    (tmp_path / "killed.partial" / "retort.db").write_bytes(b"half")
    back_up(settings, tmp_path / "killed")  # a second try is as the first
    assert files(tmp_path / "killed") == KEPT | {MANIFEST}

    def full(source: Path, target: Path) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "copied", full)
    with pytest.raises(OSError, match="No space left"):
        back_up(settings, tmp_path / "full")
    assert not [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("full")]


def test_a_checkpoint_that_is_gone_is_told_and_its_numbers_are_kept(filled: Driven, settings: Settings, tmp_path: Path) -> None:
    (settings.trials / "teachers-key" / "model.pth").unlink()
    made = back_up(settings, tmp_path / "backup")
    assert made.missing == [f"study {filled.id + number}, {TEACHER}" for number in (0, 1)]
    new = a_home(tmp_path, "new")
    restore(new, tmp_path / "backup")
    there = Store(new.database)
    assert there.trials(filled.id)[0].metrics == {"AP": 20.0}
    assert there.finished_trials(["teachers-key"]) == {}
    there.close()


def test_a_home_that_has_something_is_left_as_it_is(filled: Driven, settings: Settings, url: str, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "backup")
    before = files(settings.home)
    with pytest.raises(BackupError, match="is not empty"):
        restore(settings, tmp_path / "backup")
    assert files(settings.home) == before
    new = replace(a_home(tmp_path, "new"), database=url)
    with pytest.raises(BackupError, match=r"studies already|there is a database"):
        restore(new, tmp_path / "backup")
    assert not new.home.exists()


@pytest.mark.parametrize("damage", ["other", "missing", "newer", "no backup"])
def test_what_is_damaged_is_refused_before_anything_is_written(filled: Driven, settings: Settings, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "backup"
    back_up(settings, folder)
    match damage:
        case "other":
            (folder / "trials" / "teachers-key" / "model.pth").write_bytes(b"weightS")
            told = r"model\.pth is not what was backed up \(its digest differs\); nothing was restored"
        case "missing":
            (folder / "trials" / "teachers-key" / "result.json").unlink()
            told = "result.json is missing; the backup is damaged"
        case "newer":
            manifest = json.loads((folder / MANIFEST).read_text())
            (folder / MANIFEST).write_text(json.dumps(manifest | {"revision": "9999"}))
            told = "newer than this version knows"
        case _:
            (folder / MANIFEST).unlink()
            told = "is no backup: it has no backup.json"
    new = a_home(tmp_path, "new")
    with pytest.raises(BackupError, match=told):
        restore(new, folder)
    assert not new.home.exists()


def test_a_restore_that_was_killed_is_begun_anew(filled: Driven, settings: Settings, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "backup")
    new = a_home(tmp_path, "new")
    write_file(new.home / UNFINISHED / "retort.db", b"half")
    restore(new, tmp_path / "backup")
    assert files(new.home) == KEPT
