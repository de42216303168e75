"""A database that is locked or away comes back: units of work that say so are tried again until it does, or patience ends.

Only a whole transaction is repeated. One whose commit was cut off may have happened; so what is repeated must change nothing the
second time.
"""

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

_log = logging.getLogger(__name__)
_FIRST_SECONDS, _LONGEST_SECONDS = 0.1, 5.0  # between two tries

P = ParamSpec("P")
T = TypeVar("T")


class _Patient(Protocol):
    patience: float


S = TypeVar("S", bound=_Patient)


def patient(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A method that is one transaction, or none but reads: repeated for `self.patience` seconds."""

    def repeated(self: S, /, *arguments: P.args, **options: P.kwargs) -> T:
        return patiently(self.patience, lambda: method(self, *arguments, **options))

    functools.update_wrapper(repeated, method)
    return repeated


def patiently(seconds: float, work: Callable[[], T]) -> T:
    """The result of `work`, tried again for so long while the database is locked or away. Raises what it raised last."""
    deadline, pause = time.monotonic() + seconds, _FIRST_SECONDS
    while True:
        try:
            return work()
        except DBAPIError as error:
            if not passes(error) or time.monotonic() + pause > deadline:
                raise
            _log.warning("the database: %s; trying again", error.orig)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_SECONDS)


def passes(error: Any) -> bool:
    """Whether trying again may help: locked, connection refused or lost; not a statement that is wrong."""
    if not isinstance(error, OperationalError | InterfaceError):
        return bool(getattr(error, "connection_invalidated", False))
    return not any(word in str(error.orig) for word in ("no such", "does not exist", "syntax error"))
