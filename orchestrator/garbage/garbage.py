"""Finds what nobody needs any more, and removes it so that whoever comes to need it in that very moment has it, or starts anew.

Before a file goes, its folder is locked against processes and claimed from drivers, and the database is asked once more. It is then
renamed into `trials/.gone`, which takes no time, and deleted from there.
"""

import contextlib
import fcntl
import itertools
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from orchestrator.garbage.files import last_change, size_of
from orchestrator.garbage.policy import DAY, Policy
from orchestrator.garbage.references import AT_ONCE, Held, References
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from studies.trial import LAST_STATE

GONE = ".gone"  # in the folder of the trials: on its way out
_UNFINISHED = re.compile(r"\..*-\d+")  # a file that its process was killed in the middle of writing
_NOTES = re.compile(r"study-(\d+)-a(\d+)")  # what Tune notes of an attempt
_NOTES_DAYS = 1.0


class Kind(StrEnum):
    """Kinds of garbage, in the order in which they are looked for."""

    STATES = "states"  # what a finished trial would have gone on from
    FOLDERS = "folders"  # of trials, that nothing refers to
    NOTES = "notes"  # Tune's, of attempts that are over
    EVENTS = "events"  # of trials and epochs, of studies that ended long ago
    POINTS = "points"  # of epochs before the last, likewise


@dataclass(frozen=True)
class Found:
    """Something that may go. name: of the folder, or the study's number. rows: of the database."""

    kind: Kind
    name: str
    bytes: int = 0
    rows: int = 0


class Garbage:
    """What one Retort no longer needs by a policy."""

    def __init__(self, store: Store, settings: Settings, policy: Policy) -> None:
        self.references, self.policy = References(store), policy
        self.trials, self.tune = settings.trials, settings.home / "tune"
        self._now = store.now

    def find(self) -> Iterator[Found]:
        """What may go. It changes nothing."""
        yield from self._trials()
        yield from self._notes()
        if before := self._before(self.policy.events):
            for study, rows in self.references.old_events(before).items():
                yield Found(Kind.EVENTS, str(study), rows=rows)
        if before := self._before(self.policy.points):
            for study, rows in self.references.old_points(before).items():
                yield Found(Kind.POINTS, str(study), rows=rows)

    def remove(self, found: Found) -> Found | None:
        """What went of it; None where it is needed by now. Raises OSError."""
        match found.kind:
            case Kind.STATES:
                return self._remove_state(found)
            case Kind.FOLDERS:
                return self._remove_folder(found)
            case Kind.NOTES:
                shutil.rmtree(self.tune / found.name, ignore_errors=True)
                return found
            case Kind.EVENTS:
                delete, before = self.references.delete_events, self._before(self.policy.events)
            case Kind.POINTS:
                delete, before = self.references.delete_points, self._before(self.policy.points)
        assert before is not None
        rows = sum(iter(lambda: delete(int(found.name), before), 0))
        return Found(found.kind, found.name, rows=rows) if rows else None

    def empty(self) -> None:
        """Deletes what is on its way out; the folder stays, as somebody else may remove something just now."""
        if (self.trials / GONE).is_dir():
            for left in (self.trials / GONE).iterdir():
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)

    # --- looking

    def _before(self, days: float | None) -> int | None:
        """What came to its end before this time may go."""
        return None if days is None else int(self._now() - days * DAY)

    def _trials(self) -> Iterator[Found]:
        strange: list[str] = []
        for names in _batched(self._folders(), AT_ONCE):
            for name, held in self.references.held(names).items():
                if self._outlived(held):
                    size = self._size_of_states(name)
                    if size:
                        yield Found(Kind.STATES, name, size)
                elif not held.referred:
                    strange.append(name)
        pointed = self.references.checkpoint_folders() if strange and self.policy.folders is not None else set(strange)
        for name in strange:
            if name not in pointed and self._old(name):
                yield Found(Kind.FOLDERS, name, size_of(self.trials / name))

    def _folders(self) -> Iterator[str]:
        if self.trials.is_dir():
            with os.scandir(self.trials) as entries:
                yield from (entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name != GONE)

    def _outlived(self, held: Held) -> bool:
        before = self._before(self.policy.states)
        return before is not None and held.done is not None and held.done <= before

    def _old(self, name: str) -> bool:
        before = self._before(self.policy.folders)
        return before is not None and last_change(self.trials / name) * 1000 <= before

    def _size_of_states(self, name: str) -> int:
        """0 where another has just removed them."""
        with contextlib.suppress(FileNotFoundError):
            return sum(file.stat().st_size for file in self._states(name))
        return 0

    def _states(self, name: str) -> list[Path]:
        """Files of a finished trial that only one that goes on would read."""
        folder = self.trials / name
        return [folder / file for file in os.listdir(folder) if file == LAST_STATE or _UNFINISHED.fullmatch(file)]

    def _notes(self) -> Iterator[Found]:
        before = int(self._now() - _NOTES_DAYS * DAY)
        for folder in sorted(self.tune.glob("study-*-a*")):
            name = _NOTES.fullmatch(folder.name)
            if name and self.references.over(int(name[1]), int(name[2]), before):
                yield Found(Kind.NOTES, folder.name, size_of(folder))

    # --- removing

    def _remove_state(self, found: Found) -> Found | None:
        gone = self._gone()
        size = 0
        with _locked(self.trials / found.name) as alone, self.references.unclaimed(found.name) as held:
            if not alone or not self._outlived(held):
                return None
            for number, file in enumerate(self._states(found.name)):
                size += file.stat().st_size
                file.replace(gone.with_name(f"{gone.name}-{number}"))
        self.empty()
        return Found(Kind.STATES, found.name, size)

    def _remove_folder(self, found: Found) -> Found | None:
        with _locked(self.trials / found.name) as alone, self.references.unclaimed(found.name) as held:
            if not alone or held.referred or not self._old(found.name):  # somebody may have trained there and gone again
                return None
            (self.trials / found.name).replace(self._gone())
        self.empty()
        return found

    def _gone(self) -> Path:
        """A name nobody has yet, in the folder of what is on its way out."""
        (self.trials / GONE).mkdir(exist_ok=True)
        return self.trials / GONE / secrets.token_hex(8)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Locks a trial's folder as its process would. Gives False where one is there, or the folder is gone."""
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context((folder / "lock").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError):
            yield False
        else:
            yield True


def _batched(names: Iterator[str], size: int) -> Iterator[Sequence[str]]:
    return iter(lambda: list(itertools.islice(names, size)), [])
