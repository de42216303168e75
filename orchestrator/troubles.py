"""What keeps studies from running, in sentences that say what to do: read from the database, for `retort status`."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from orchestrator.driving.pulse import DRIVER_SECONDS
from orchestrator.machine import StudyState, TrialState
from orchestrator.records.schema import Attempt, Study
from orchestrator.records.store import Store
from orchestrator.settings import Settings

SILENT_SECONDS = 60.0  # a loop of the orchestrator that takes longer for a round is stuck
PATIENCE_SECONDS = 30.0  # what waits for a shorter time is on its way
LOCK_SECONDS = 2.0
LEAST_FREE, LEAST_SHARE = 2 * 2**30, 0.03  # bytes, and share of the disk, below which it is nearly full


def troubles(store: Store, settings: Settings) -> list[str]:
    """One sentence a trouble, the gravest first; none when all is well."""
    locked = _of_database(settings.database)
    return [*disk_troubles(settings.home), *locked, *_of_loops(store), *_of_outbox(store), *_of_studies(store)]


def disk_troubles(folder: Path) -> list[str]:
    """Whether the disk of the state folder is nearly full."""
    total, _, free = shutil.disk_usage(folder)
    if free > LEAST_FREE and free > LEAST_SHARE * total:
        return []
    left = f"the disk of {folder} has {free / 2**30:.1f} GB left"
    return [f"{left}; below RETORT_LEAST_FREE_MB (512) no trial is started: free some space, or move RETORT_HOME"]


def _of_database(url: str) -> list[str]:
    """Whether somebody keeps SQLite's one write lock to himself; ours are held for a fraction of a second."""
    if not url.startswith("sqlite:///"):
        return []
    file = url.removeprefix("sqlite:///")
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=LOCK_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return [f"the database cannot be written ({error}); studies wait and lose nothing. Who holds it: fuser {file}"]
    return []


def _of_loops(store: Store) -> Iterator[str]:
    beats = store.heartbeats()
    if not beats:
        yield "the orchestrator has never been seen, so nothing is run: see its log, logs/orchestrator.log"
    for beat in beats:
        age = (store.now() - beat.time) / 1000
        if age > SILENT_SECONDS:
            yield f"the orchestrator's loop {beat.name} was last seen {age:.0f} s ago; if it does not come back: retort down, retort up"
        elif beat.trouble:
            yield f"the orchestrator's loop {beat.name} has trouble and tries again: {beat.trouble}"


def _of_outbox(store: Store) -> Iterator[str]:
    for aside in store.set_aside():
        kept = f"{aside.rows} changes of study {aside.study_id}, which are kept for `retort resend`"
        yield f"MLflow could not be told {kept}: {aside.trouble}"
    found = store.gauges()
    if found.outbox_age > PATIENCE_SECONDS and found.outbox > found.outbox_set_aside:
        yield f"MLflow is {found.outbox_age:.0f} s behind ({found.outbox} changes wait); studies go on, and it is told all once it answers"


def _of_studies(store: Store) -> Iterator[str]:
    reasons = {study.id: place.reason for place, study in store.places()}
    for study, attempt in store.driven_studies():
        yield from _driven(store, study, attempt, reasons.get(study.id))
    for waiting in store.queued_studies():
        study = store.study(waiting.study_id)
        if waiting.stalls:
            last = store.attempts(study.id)[-1].outcome
            yield f"{_named(study)} lost its last {waiting.stalls} attempts without a new epoch and is tried again; the last one: {last}"
        elif study.id in reasons:
            yield f"{_named(study)}: {reasons[study.id]}"
        elif (store.now() - max(waiting.ended or 0, study.created)) / 1000 > PATIENCE_SECONDS:
            yield f"{_named(study)} waits for the orchestrator, which has not taken it up yet"


def _driven(store: Store, study: Study, attempt: Attempt, reason: str | None) -> Iterator[str]:
    silence = store.driver_silence(study.id, attempt.number)
    age = (store.now() - attempt.created) / 1000
    if silence is None and age > PATIENCE_SECONDS:
        yield f"{_named(study)} waits for its driver to come up, since {age:.0f} s; Ray starts it when it has room"
        return
    if silence is not None and silence > PATIENCE_SECONDS:
        yield f"{_named(study)}: its driver has been silent for {silence:.0f} s and is replaced after {DRIVER_SECONDS:.0f} s"
        return
    counts = store.counts(study.id)
    if study.state == StudyState.RUNNING and counts[TrialState.READY] and not counts[TrialState.RUNNING] and age > PATIENCE_SECONDS:
        yield f"{_named(study)}: {reason or 'waits for the broker, which has not looked at its trials yet'}"


def _named(study: Study) -> str:
    return f"study {study.id} ({study.name})"
