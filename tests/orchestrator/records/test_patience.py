"""A database that is locked or away for a while: a driver waits, everybody else is told."""

import sqlite3
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from orchestrator.records import patience
from orchestrator.records.store import Store
from tests.orchestrator.conftest import ALONE, Driven


def impatient_sqlite(store: Store) -> None:
    """SQLite itself waits no longer than a moment, so that a test need not."""
    store.engine.dispose()

    from sqlalchemy import event

    @event.listens_for(store.engine, "connect")
    def short(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout=20")


def locked_for(path: Path, seconds: float) -> threading.Thread:
    """Somebody else holds the write lock of an SQLite database."""
    held = threading.Event()

    def hold() -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        held.set()
        time.sleep(seconds)
        connection.execute("ROLLBACK")
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    return thread


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "patient.db"


def test_a_patient_driver_records_its_epoch_when_the_lock_is_gone(path: Path, tmp_path: Path) -> None:
    store = Store(f"sqlite:///{path}", patience=60)
    driven = Driven.start(store, tmp_path)
    driven.begin(ALONE)
    impatient_sqlite(store)
    other = locked_for(path, 1.0)
    assert driven.epoch(ALONE, 1)
    other.join()
    assert [point.epoch for point in store.points(driven.id)] == [1]
    store.close()


def test_without_patience_a_locked_database_is_told_at_once(path: Path, tmp_path: Path) -> None:
    store = Store(f"sqlite:///{path}")
    driven = Driven.start(store, tmp_path)
    driven.begin(ALONE)
    impatient_sqlite(store)
    other = locked_for(path, 0.5)
    with pytest.raises(OperationalError, match="locked"):
        driven.epoch(ALONE, 1)
    other.join()
    assert driven.epoch(ALONE, 1)
    store.close()


def test_a_statement_that_is_wrong_is_not_tried_again(path: Path) -> None:
    tries = []

    def wrong() -> None:
        tries.append(1)
        sqlite3_error = sqlite3.OperationalError("no such table: trials")
        raise OperationalError("SELECT", {}, sqlite3_error)

    with pytest.raises(OperationalError):
        patience.patiently(60, wrong)
    assert len(tries) == 1
