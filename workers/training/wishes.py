"""What others want of a training under way, told by files in its folder: a checkpoint now, or a checkpoint and its devices.

Whoever wants something makes the file; the training removes it when it has done so.
"""

from __future__ import annotations

from pathlib import Path

from studies.trial import CHECKPOINT_NOW, LEAVE_NOW


class Left(Exception):
    """The training was asked to make room, and has written what to go on from."""


class Wishes:
    """The wishes in a trial's folder; older than the process they are forgotten."""

    def __init__(self, folder: Path) -> None:
        self._checkpoint, self._leave = folder / CHECKPOINT_NOW, folder / LEAVE_NOW
        for file in (self._checkpoint, self._leave):
            file.unlink(missing_ok=True)

    def pending(self) -> bool:
        """Whether a checkpoint is wanted."""
        return self._checkpoint.exists() or self._leave.exists()

    def saved(self) -> None:
        """A checkpoint was written. Raises Left where that was to be the last thing."""
        self._checkpoint.unlink(missing_ok=True)
        if self._leave.exists():
            self._leave.unlink(missing_ok=True)
            raise Left
