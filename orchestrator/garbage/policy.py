"""For how long what is no longer needed is kept all the same: read from RETORT_GC_*, conservative where nothing is said."""

import math
import os
from dataclasses import asdict, dataclass, replace

DAY = 24 * 3600 * 1000  # milliseconds
NEVER = "never"


@dataclass(frozen=True)
class Policy:
    """Days; None: for ever.

    states: what a trial would have gone on from, after its end. folders: those of trials that nothing refers to, after their last change.
    events: of trials and epochs, points: of all epochs but the last, each after the end of their study.
    """

    states: float | None = 7.0
    folders: float | None = 30.0
    events: float | None = None
    points: float | None = None

    @classmethod
    def from_environment(cls) -> "Policy":
        """RETORT_GC_STATES, _FOLDERS, _EVENTS and _POINTS: days, or `never`. Raises ValueError."""
        return cls(**{name: _days(f"RETORT_GC_{name.upper()}", days) for name, days in cls().days().items()})

    def days(self) -> dict[str, float | None]:
        """By kind."""
        return asdict(self)

    def after(self, days: float | None) -> "Policy":
        """The same, with files that may go at all going after so many days. None: unchanged."""
        if days is None:
            return self
        return replace(self, **{name: days for name in ("states", "folders") if getattr(self, name) is not None})


def _days(name: str, default: float | None) -> float | None:
    text = os.environ.get(name, "")
    if not text:
        return default
    if text == NEVER:
        return None
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not math.isfinite(days) or days < 0:
        raise ValueError(f"{name} is {text!r}; give a number of days, or {NEVER}")
    return days
