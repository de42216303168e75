"""Puts a backup into an empty home: every file is held against its digest first, and paths are those of the new home afterwards."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import insert, literal, select
from sqlalchemy.orm import Session

from orchestrator.backup.databases import fill_server, is_empty, sqlite_file
from orchestrator.backup.manifest import DATABASE, TRIALS, BackupError, Manifest, copied, sha256_of
from orchestrator.records.database import Database
from orchestrator.records.migrations import newest
from orchestrator.records.schema import Outbox, Study, Trial
from orchestrator.settings import Settings

UNFINISHED = ".restoring"  # in the home: what an earlier restore was killed over


def restore(settings: Settings, source: Path, say: Callable[[str], None] = lambda line: None) -> Manifest:
    """Puts the backup in `source` into the home and the database of `settings`, both empty. Raises BackupError, OSError."""
    manifest = Manifest.read(source)
    _refuse_newer(manifest)
    _refuse_what_is_there(settings)
    say(f"checking {len(manifest.files)} files")
    _refuse_damage(source, manifest)
    home, made = settings.home, settings.home / UNFINISHED
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(mode=0o700, parents=True)
    for name, digest in manifest.files.items():
        if copied(source / name, made / name) != digest:
            raise BackupError(f"{source / name} changed while it was copied")
    say("bringing the database up to date")
    _adapt(made / DATABASE, Path(manifest.home), home, told_again=not manifest.mlflow)
    _put(made, settings)
    return manifest


def _refuse_newer(manifest: Manifest) -> None:
    if manifest.revision > newest():
        raise BackupError(f"the backup is of Retort {manifest.version}, whose database is newer than this version knows; install that one")


def _refuse_what_is_there(settings: Settings) -> None:
    home = settings.home
    there = sorted(entry.name for entry in home.iterdir() if entry.name != UNFINISHED) if home.exists() else []
    if there:
        raise BackupError(f"{home} is not empty ({', '.join(there[:5])}); restore into another one: RETORT_HOME=FOLDER retort restore ...")
    if file := sqlite_file(settings.database):
        if file.exists():
            raise BackupError(f"there is a database in {file}; move it away, or name another in RETORT_DATABASE_URL")
    elif not is_empty(settings.database):
        raise BackupError("the database of RETORT_DATABASE_URL has studies already; restore into an empty one")


def _refuse_damage(source: Path, manifest: Manifest) -> None:
    for name, digest in manifest.files.items():
        file = source / name
        if not file.resolve().is_relative_to(source.resolve()) or not file.is_file():
            raise BackupError(f"{file} is missing; the backup is damaged and nothing was restored")
        if sha256_of(file) != digest:
            raise BackupError(f"{file} is not what was backed up (its digest differs); nothing was restored")


def _adapt(database: Path, before: Path, home: Path, told_again: bool) -> None:
    """The database as it is in the new home: of this version, its paths there. told_again: MLflow is another one and knows nothing yet."""
    opened = Database(f"sqlite:///{database}")
    with Session(opened.engine.execution_options(retort_writes=True)) as session:
        for trial in session.scalars(select(Trial).where(Trial.folder.is_not(None))):
            trial.checkpoint, trial.best_checkpoint = (_moved(path, before, home) for path in (trial.checkpoint, trial.best_checkpoint))
            trial.spec = _moved(trial.spec, before, home)
        if told_again:
            now = opened.now()
            studies = select(Study.id, literal(None), literal(now)).where(Study.run.is_not(None))
            trials = select(Trial.study_id, Trial.id, literal(now)).where(Trial.run.is_not(None))
            for rows in (trials, studies):
                session.execute(insert(Outbox).from_select(["study_id", "trial_id", "time"], rows))
        session.commit()
    opened.close()  # the last one to close it puts its log into it


def _moved(value: Any, before: Path, home: Path) -> Any:
    """A value in which paths of trials' files are those of the new home."""
    if isinstance(value, dict):
        return {name: _moved(inner, before, home) for name, inner in value.items()}
    if isinstance(value, list):
        return [_moved(inner, before, home) for inner in value]
    old = f"{before / TRIALS}{os.sep}"
    return f"{home / TRIALS}{os.sep}{value.removeprefix(old)}" if isinstance(value, str) and value.startswith(old) else value


def _put(made: Path, settings: Settings) -> None:
    """Everything to its place; a server's database first, which may fail, a file's last: without it there is nothing that could start."""
    file = sqlite_file(settings.database)
    if file is None:
        fill_server(made / DATABASE, settings.database)
    for entry in made.iterdir():
        if not entry.name.startswith(DATABASE):
            entry.rename(settings.home / entry.name)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made / DATABASE, file)
    shutil.rmtree(made)
