"""The operator's token: in a file that only the operator reads, so that whoever owns the machine owns the service, and nobody else does."""

import getpass
import os
from pathlib import Path

from orchestrator.access.secrets import new_token

_SHORTEST = 32  # characters of a token that an operator chose


def operator_token(file: Path) -> str:
    """The token in the file, which is made when it is missing. Raises ValueError for one that could be guessed."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
            made.write(new_token() + "\n")
    except FileExistsError:
        pass
    token = file.read_text().strip()
    if len(token) < _SHORTEST:
        raise ValueError(
            f"the token in {file} has {len(token)} characters; it needs {_SHORTEST}, drawn at random (remove the file to have one made)"
        )
    return token


def operator_name() -> str:
    """Who runs the service: this user of the machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        return "operator"
