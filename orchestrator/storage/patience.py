"""What a store is asked is asked again while it is away: a moment's trouble there costs no trial."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.storage.storage import LeaseOver, StorageError
from studies.trial import TrialFailure

T = TypeVar("T")
log = logging.getLogger(__name__)
PATIENCE_SECONDS = 150.0


def patiently(work: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """What `work` gives, tried again with growing pauses for so long. Raises TrialFailure("infra")."""
    until = time.monotonic() + seconds
    pause = 0.5
    while True:
        try:
            return work()
        except LeaseOver as over:
            raise TrialFailure("infra", str(over)) from over
        except (StorageError, OSError) as trouble:
            if time.monotonic() + pause > until:
                raise TrialFailure("infra", str(trouble)) from trouble
            log.warning("%s; trying again", trouble)
        time.sleep(pause)
        pause = min(2 * pause, 15.0)
