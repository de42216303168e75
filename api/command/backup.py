"""`retort backup` and `retort restore`: on the machine where the state folder is, beside a stack that runs or without one."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.command.garbage import human
from api.command.output import Json, tell
from studies.home import retort_home

if TYPE_CHECKING:
    from orchestrator.settings import Settings

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="folder of the backup")]


def backup(folder: Folder, as_json: Json = False) -> None:
    """Copy database, results and MLflow's files to a new folder, while everything runs."""
    from orchestrator.backup.write import back_up

    with _told():
        made = back_up(_settings(), folder.expanduser().resolve(), _unsaid if as_json else _say)
    size = sum((folder / name).stat().st_size for name in made.files)
    elsewhere = "" if made.mlflow else "; MLflow keeps its files elsewhere, they are not in it"
    lost = [f"note: the checkpoint of {name} is not there any more; its numbers are kept" for name in made.missing]
    data = {"folder": str(folder), "files": len(made.files), "bytes": size, "mlflow": made.mlflow, "missing": list(made.missing)}
    tell(as_json, data, f"{folder}: {len(made.files)} files, {human(size)}{elsewhere}", *lost)


def restore(folder: Folder, as_json: Json = False) -> None:
    """Put a backup into an empty $RETORT_HOME; then `retort up`."""
    from orchestrator.backup.restore import restore as put_back

    with _told():
        made = put_back(_settings(), folder.expanduser().resolve(), _unsaid if as_json else _say)
    anew = () if made.mlflow else ("MLflow is told everything anew",)
    data = {"home": str(retort_home()), "files": len(made.files), "mlflow": made.mlflow}
    tell(as_json, data, f"restored to {retort_home()}, {len(made.files)} files as they were backed up; start it: retort up", *anew)


@contextmanager
def _told() -> Iterator[None]:
    """A disk that is full and a database that is away are told in a line, as what was refused is."""
    from sqlalchemy.exc import SQLAlchemyError

    from orchestrator.backup.manifest import BackupError

    try:
        yield
    except OSError as error:
        raise BackupError(f"{error.strerror}: {error.filename}" if error.filename else str(error)) from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise BackupError(f"the database: {str(error).splitlines()[0]}") from error


def _settings() -> "Settings":
    """Those of the stack that runs in this home, else of the environment."""
    from api.embedded.stack import load_stack
    from api.embedded.supervisord import process
    from orchestrator.settings import settings

    stack = load_stack()
    supervisor = process(stack) if stack else None
    if supervisor:
        os.environ.update({name: value for name, value in supervisor.environ().items() if name.startswith("RETORT_")})
    return settings()


def _say(line: str) -> None:
    print(line, flush=True)


def _unsaid(line: str) -> None:
    """Progress is not for programs."""
