"""What drivers and trials print: where it is kept, how a process writes there, and how it is read in pieces, also after the end."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orchestrator.records.errors import NoSuchTrial
from orchestrator.records.store import Store
from orchestrator.settings import Settings

TRIAL_OUTPUT = "output.log"  # in the trial's folder; it outlives attempts, as the folder does
PIECE_BYTES = 64 * 1024
Output = Callable[[int, int], bytes]  # (start, count) -> bytes of what was printed, fewer at its end


@dataclass(frozen=True)
class Cursor:
    """Where reading goes on: a file (the attempt's number; 0 for a trial's) and an offset in bytes."""

    file: int = 0
    offset: int = 0

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises ValueError."""
        file, _, offset = text.partition(".")
        found = cls(int(file), int(offset))
        if found.file < 0 or found.offset < 0:
            raise ValueError(text)
        return found

    def __str__(self) -> str:
        return f"{self.file}.{self.offset}"


@dataclass(frozen=True)
class Piece:
    """Some whole lines, where the next ones begin, and whether there are more of them now."""

    text: str
    cursor: Cursor
    more: bool


def driver_output(settings: Settings, study_id: int, attempt: int) -> Path:
    """Where the driver of an attempt writes."""
    return settings.home / "logs" / f"study-{study_id}" / f"attempt-{attempt}.log"


def driver_log(study_id: int, attempt: int) -> str:
    """What that is called in the store."""
    return f"logs/study-{study_id}/attempt-{attempt}"


def outputs_of(store: Store, settings: Settings, study_id: int, trial: str | None) -> dict[int, Output]:
    """What a study's drivers printed, by attempt, or one trial did. Raises NoSuchStudy, NoSuchTrial."""
    if trial is None:
        store.study(study_id)
        return {attempt.number: _of_driver(store, settings, study_id, attempt.number) for attempt in store.attempts(study_id)}
    found = next((each for each in store.trials(study_id) if each.name == trial), None)
    if found is None:
        raise NoSuchTrial(f"study {study_id} has no trial {trial!r}")
    return {0: partial(store.files.read, found.folder, TRIAL_OUTPUT)} if found.folder else {}


def _of_driver(store: Store, settings: Settings, study_id: int, attempt: int) -> Output:
    """As its own machine has it, else as it was mirrored."""
    file = driver_output(settings, study_id, attempt)
    return of_file(file) if file.exists() else partial(store.files.mirrored, driver_log(study_id, attempt))


def of_file(file: Path) -> Output:
    """What a process wrote to a file of this machine."""

    def read(start: int, count: int) -> bytes:
        try:
            with file.open("rb") as opened:
                opened.seek(start)
                return opened.read(count)
        except FileNotFoundError:
            return b""

    return read


def read(outputs: Mapping[int, Output], cursor: Cursor, ended: bool) -> Piece:
    """The next piece. ended: nobody writes any more, so that a last line without its end is given too."""
    for number in sorted(each for each in outputs if each >= cursor.file):
        offset = cursor.offset if number == cursor.file else 0
        later = any(each > number for each in outputs)
        lines = _lines(outputs[number], offset, ended or later)
        if lines:
            return Piece(lines.decode(errors="replace"), Cursor(number, offset + len(lines)), more=True)
        cursor = Cursor(number, offset)
    return Piece("", cursor, more=False)


def _lines(output: Output, offset: int, ended: bool) -> bytes:
    """Whole lines from an offset on, at most PIECE_BYTES; a longer line comes in pieces."""
    found = output(offset, PIECE_BYTES)
    end = found.rfind(b"\n") + 1
    return found if (ended and len(found) < PIECE_BYTES) or (len(found) == PIECE_BYTES and not end) else found[:end]


@contextmanager
def written_to(file: Path) -> Iterator[None]:
    """Whatever this process prints, its libraries' C code included, is appended to the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _flush()
    saved = [os.dup(number) for number in (1, 2)]
    opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        for number in (1, 2):
            os.dup2(opened, number)
        yield
    finally:
        _flush()
        for number, before in zip((1, 2), saved, strict=True):
            os.dup2(before, number)
            os.close(before)
        os.close(opened)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a full disk: words are lost, not the work they tell of
            stream.flush()
