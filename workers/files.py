"""Files that are never seen half-written."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any


def file_sha256(path: Path) -> str:
    """Digest of a file (hex)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """torch.save that is never seen half-written, and whose bytes do not depend on the file's name."""
    import torch  # here, as not everybody who writes files has it loaded

    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(buffer.getvalue(), path)


def write_atomically(content: bytes, path: Path) -> None:
    """Writes beside `path`, flushes to disk, then renames over it. What a full disk did not take to its end is not left there."""
    unfinished = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
