"""A planned stop, `python -m orchestrator.driving.pausing WHY`: trials are asked for a checkpoint, then their attempts end uncounted.

It needs no driver's help, so that it works for `retort down`, an upgrade and a preemption alike.
"""

import contextlib
import sys
import time
from dataclasses import dataclass

from orchestrator.machine import TrialState
from orchestrator.records.store import Store
from orchestrator.settings import settings
from orchestrator.storage.files import TrialFiles, opened_files
from orchestrator.storage.storage import StorageError
from studies.trial import CHECKPOINT_NOW

CHECKPOINT_SECONDS = 20.0  # the longest that a planned stop waits for checkpoints


@dataclass(frozen=True)
class Paused:
    """What a planned stop came to. studies: whose attempts it ended. asked, written: trials asked for a checkpoint, those that wrote."""

    studies: list[int]
    asked: int
    written: int


def pause(store: Store, why: str, seconds: float = CHECKPOINT_SECONDS) -> Paused:
    """Ends the attempts of all studies that run, as planned: the studies are queued, and go on from their checkpoints.

    why: for those who watch. To be called when nobody can open a new attempt (the service's
    loops are down). The caller then ends the processes.
    """
    live = {study.id: attempt for study, attempt in store.driven_studies()}
    folders = [
        trial.folder
        for study_id in live
        for trial in store.trials(study_id)
        if trial.state == TrialState.RUNNING and trial.folder and trial.measurement is None
    ]
    written = ask_for_checkpoints(store.files, folders, seconds)
    for study_id, attempt in live.items():
        store.end_attempt(study_id, attempt.number, why, planned=True)
        store.forget_driver(study_id, attempt.number)
    return Paused(list(live), len(folders), written)


def ask_for_checkpoints(files: TrialFiles, folders: list[str], seconds: float) -> int:
    """Asks the processes that train in these folders for a checkpoint, and gives how many wrote one within so many seconds."""
    waiting = set()
    for folder in folders:
        with contextlib.suppress(OSError, StorageError):
            files.leave_note(folder, CHECKPOINT_NOW)
            waiting.add(folder)
    asked = len(waiting)
    deadline = time.monotonic() + seconds
    while waiting and time.monotonic() < deadline:
        time.sleep(0.1)
        with contextlib.suppress(StorageError):
            waiting = {folder for folder in waiting if files.has_note(folder, CHECKPOINT_NOW)}
    for folder in waiting:
        with contextlib.suppress(StorageError):
            files.take_note_away(folder, CHECKPOINT_NOW)
    return asked - len(waiting)


def main() -> None:
    (why,) = sys.argv[1:]
    configured = settings()
    done = pause(Store(configured.database, files=opened_files(configured)), why)
    if done.studies:
        told = f"{len(done.studies)} studies will go on from here"
        print(f"{told}; {done.written} of {done.asked} trials wrote a checkpoint" if done.asked else told)


if __name__ == "__main__":
    main()
