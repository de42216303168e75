"""Where Retort keeps its state on this machine: one folder, `$RETORT_HOME` (default `./.retort`)."""

import os
from pathlib import Path


def retort_home() -> Path:
    """The state folder as an absolute path (not created here)."""
    return Path(os.environ.get("RETORT_HOME", ".retort")).expanduser().resolve()
