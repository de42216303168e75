"""What a node of the cluster says of itself, as a small Ray Job: `python -m orchestrator.cluster.probe FOLDER`.

FOLDER is one that the asker made in the state folder: finding it, and writing into it, shows that the state is shared. Where there is a
store, the word that the asker looks for is left there.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from orchestrator.credentials import NoCredentials
from orchestrator.records.database import engine_for
from orchestrator.settings import settings
from orchestrator.storage.storage import Storage, StorageError
from studies.code import code_version

MARK = "retort-probe "  # what the line of a probe begins with in the job's log


def main() -> None:
    said = {
        "time": time.time(),
        "version": version("retort"),
        "code": code_version(),
        "database": _database(),
        "state": _state(Path(sys.argv[1])),
    }
    print(MARK + json.dumps(said), flush=True)


def _state(folder: Path) -> str:
    """Empty where the asker's folder is here, or its store, and can be written to; else what is wrong."""
    if store := settings().store:
        try:
            Storage(store).leave_note(*note_of(folder))
        except (StorageError, ValueError) as error:
            return str(error)
        return ""
    if not folder.is_dir():
        return f"{folder} is not there"
    try:
        (folder / "answer").write_text("")
    except OSError as error:
        return f"{folder} cannot be written to ({error.strerror})"
    return ""


def note_of(folder: Path) -> tuple[str, str]:
    """What a node leaves in a store for the asker with this folder: the name it is left under, and the note."""
    return f"probes/{folder.parent.name}", folder.name


def _database() -> str:
    """Empty where the database can be opened from here; else what is wrong."""
    try:
        with engine_for(settings().database).connect():
            return ""
    except (SQLAlchemyError, NoCredentials) as error:
        return str(error).splitlines()[0]


if __name__ == "__main__":
    main()
