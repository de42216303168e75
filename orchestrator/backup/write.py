"""Makes a backup while everything runs: the database at one moment, then the files that it names.

Those never change once they are named, so that they are what the database says, however long copying takes.
"""

import contextlib
import fcntl
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from orchestrator.backup.databases import copy_sqlite, copy_to_file, reading, revision_of
from orchestrator.backup.manifest import DATABASE, DATASETS, MLFLOW, TRIALS, BackupError, Manifest, copied, sha256_of
from orchestrator.machine import GOOD
from orchestrator.settings import Settings
from studies.measures import LEARNT
from studies.trial import LAST_STATE

_OF_A_PROCESS = frozenset({"lock", "process.json", LAST_STATE})  # what nobody needs who does not go on with the training


def back_up(settings: Settings, target: Path, say: Callable[[str], None] = lambda line: None) -> Manifest:
    """A backup in the new folder `target`, which is there whole or not at all. Raises BackupError, OSError."""
    if target.exists():
        raise BackupError(f"{target} is there already; a backup replaces nothing, name another folder")
    with _being_made(target) as folder:
        say("copying the database")
        copy_to_file(settings.database, folder / DATABASE)
        files = {DATABASE: sha256_of(folder / DATABASE)}
        trials, missing = _copy_trials(folder, settings, say)
        files |= trials
        mlflow = _copy_mlflow(folder, settings.home / MLFLOW, say)
        files |= mlflow
        files |= _copy_tree(settings.home / DATASETS, folder, DATASETS)
        made = Manifest(
            version=version("retort"),
            revision=revision_of(folder / DATABASE),
            home=str(settings.home),
            created=time.time(),
            mlflow=bool(mlflow),
            files=files,
            missing=missing,
        )
        made.write(folder)
    return made


@contextmanager
def _being_made(target: Path) -> Iterator[Path]:
    """`target` under the name TARGET.partial, renamed when the block comes to its end. What was killed before is begun anew."""
    partial = target.with_name(f"{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"another backup is being written to {target}") from None
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)  # it holds digests of tokens, and webhooks' secrets
        try:
            yield partial
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            Path(lock.name).unlink(missing_ok=True)


def _copy_trials(folder: Path, settings: Settings, say: Callable[[str], None]) -> tuple[dict[str, str], list[str]]:
    """Files of all trials with results, by the database that was copied; and those that it names and that are not there."""
    files: dict[str, str] = {}
    missing: list[str] = []
    for name, checkpoint, read_later in sorted(_results(folder / DATABASE)):
        source = Path(checkpoint).parent
        if not source.is_absolute():  # in the cluster's store, which is backed up as stores are
            continue
        if not Path(checkpoint).is_file():
            missing.append(name)
            continue
        prefix = f"{TRIALS}/{source.name}"
        if f"{prefix}/{Path(checkpoint).name}" in files:
            continue
        left_out = _OF_A_PROCESS - ({LAST_STATE} if read_later else set())
        files |= _copy_tree(source, folder, prefix, left_out)
        say(f"copied {prefix}")
    return files, missing


def _results(database: Path) -> Iterator[tuple[str, str, bool]]:
    """Trials with results: its name, where its checkpoint is, and whether its last state is read after its end."""
    with contextlib.closing(reading(database)) as connection:
        query = "SELECT study_id, name, checkpoint, spec FROM trial WHERE state IN (?, ?) AND checkpoint IS NOT NULL"
        for study, name, checkpoint, spec in connection.execute(query, [state.value for state in GOOD]):
            learnt = {use["id"] for use in json.loads(spec or "{}").get("distillers", ())} & LEARNT
            yield f"study {study}, {name}", checkpoint, bool(learnt)


def _copy_mlflow(folder: Path, source: Path, say: Callable[[str], None]) -> dict[str, str]:
    """MLflow's files where it keeps them beside ours. After our database: it may know more than that, never less."""
    if not (source / "mlflow.db").is_file():
        return {}
    say("copying MLflow's files")
    (folder / MLFLOW).mkdir()
    try:
        copy_sqlite(source / "mlflow.db", folder / MLFLOW / "mlflow.db")
    except sqlite3.Error as error:
        raise BackupError(f"MLflow's database cannot be copied: {error}") from None
    return {
        f"{MLFLOW}/mlflow.db": sha256_of(folder / MLFLOW / "mlflow.db"),
        **_copy_tree(source / "artifacts", folder, f"{MLFLOW}/artifacts"),
    }


def _copy_tree(source: Path, folder: Path, prefix: str, left_out: frozenset[str] = frozenset()) -> dict[str, str]:
    """All files below `source`, to `prefix` under the backup's folder; with their digests."""
    digests = {}
    for file in sorted(source.rglob("*")):
        inside = file.relative_to(source)
        if not file.is_file() or str(inside) in left_out or file.name.startswith("."):
            continue
        digests[f"{prefix}/{inside}"] = copied(file, folder / prefix / inside)
    return digests
