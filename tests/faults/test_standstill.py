"""What stands still in the middle of a real study: a process (SIGSTOP), a file system, the database.

Who stands still misses its deadline, is ended with the reason, and its work is done anew; who waits for the database comes to no harm.
"""

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.conftest import Bench, first_epoch


def test_a_trial_that_stands_still_is_lost_within_its_deadline_and_trained_again(bench: Bench, undisturbed: int) -> None:
    study = bench.submit("a trial stands still", force=True)
    bench.await_event(study, first_epoch)
    bench.processes("ray::ImplicitFunc")[0].send_signal(signal.SIGSTOP)
    bench.hold_against(study, undisturbed)
    assert len(bench.store.attempts(study)) == 1
    notes = [event.data["text"] for event in bench.store.events(study) if event.kind == "note"]
    assert sum(" was lost: no sign of life for " in note for note in notes) == 1


def test_a_driver_that_stands_still_is_replaced_within_its_deadline(bench: Bench, undisturbed: int) -> None:
    study = bench.submit("a driver stands still", force=True)
    bench.await_event(study, first_epoch)
    (driver,) = bench.processes("orchestrator.driving.driver", f" {study} 1")
    driver.send_signal(signal.SIGSTOP)
    bench.hold_against(study, undisturbed)
    first, second = bench.store.attempts(study)
    assert (first.outcome or "").startswith("its driver gave no sign of life for 2")
    assert second.outcome == "done"


@contextlib.contextmanager
def hanging(file: Path) -> Iterator[None]:
    """Whoever opens the file waits, as on a file system that hangs: nobody ever writes into this pipe."""
    aside = file.with_suffix(".aside")
    file.rename(aside)
    os.mkfifo(file)
    try:
        yield
    finally:
        aside.replace(file)


def test_a_trial_that_a_hanging_file_system_holds_is_lost_within_its_deadline_and_trained_again(bench: Bench, undisturbed: int) -> None:
    study = bench.submit("a file system hangs", force=True)
    bench.await_event(study, first_epoch)
    with hanging(Path(bench.stack.home) / "data" / "digits" / "val" / "00000.png"):
        lost = bench.await_event(study, lambda event: event.kind == "note" and " was lost: " in event.data["text"])
    assert " was lost: no sign of life for 3" in lost.data["text"]
    bench.hold_against(study, undisturbed)
    assert len(bench.store.attempts(study)) == 1


def test_a_database_that_is_locked_for_longer_than_all_deadlines_costs_nothing_but_time(bench: Bench, undisturbed: int) -> None:
    study = bench.submit("the database is locked", force=True)
    bench.await_event(study, first_epoch)
    connection = sqlite3.connect(f"{bench.stack.home}/retort.db", isolation_level=None, timeout=30)
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(45)
    connection.execute("ROLLBACK")
    connection.close()
    bench.hold_against(study, undisturbed)
    assert len(bench.store.attempts(study)) == 1
    assert not [event for event in bench.store.events(study) if event.kind == "trial" and event.data["losses"]]
