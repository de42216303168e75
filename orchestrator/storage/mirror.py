"""A file that a process of one machine writes for hours, kept in the store so that others can read it: what a driver prints."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.storage.storage import LeaseOver, Manifest, Storage, StorageError

log = logging.getLogger(__name__)
SECONDS = 30.0  # between two looks


@contextmanager
def mirrored(storage: Storage, name: str, file: Path, seconds: float = SECONDS) -> Iterator[None]:
    """Inside, the store has the file as it was a moment ago; afterwards as it is. A store that is away does no harm but that."""
    stopping = threading.Event()
    size = 0

    def send() -> None:
        nonlocal size
        try:
            content = file.read_bytes()
            if len(content) != size:
                storage.publish(name, Manifest(0, {file.name: storage.put_bytes(content, name, 0)}))
                size = len(content)
        except (StorageError, LeaseOver, OSError) as trouble:
            log.warning("%s is not sent: %s", file.name, trouble)

    def keep() -> None:
        while not stopping.wait(seconds):
            send()

    thread = threading.Thread(target=keep, name="mirror", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        send()
