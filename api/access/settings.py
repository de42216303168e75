"""What an operator may say about access: names of the service, where its first token lies, and limits; all from the environment."""

import os
from dataclasses import dataclass
from pathlib import Path

from studies.home import retort_home


@dataclass(frozen=True)
class AccessSettings:
    """How the service may be reached.

    token_file: holds the operator's token; made when it is missing. hosts: names of the service beside loopback's, "*.example.org" for all
    below it. requests, body_bytes: how many each token has a minute. behind_login: whether MLflow and Ray's dashboard are served below
    /mlflow and /ray.
    """

    token_file: Path
    hosts: tuple[str, ...] = ()
    requests: int = 1200
    body_bytes: int = 60_000_000
    behind_login: bool = False


def access_settings(home: Path | None = None) -> AccessSettings:
    """Those of this process, from RETORT_*. home: the state folder, where the environment's is not meant."""
    return AccessSettings(
        token_file=Path(os.environ.get("RETORT_TOKEN_FILE") or (home or retort_home()) / "token"),
        hosts=tuple(name.strip() for name in os.environ.get("RETORT_ALLOWED_HOSTS", "").split(",") if name.strip()),
        requests=_positive("RETORT_REQUESTS_PER_MINUTE", 1200),
        body_bytes=_positive("RETORT_BODY_MB_PER_MINUTE", 60) * 1_000_000,
        behind_login=os.environ.get("RETORT_BEHIND_LOGIN", "0") != "0",
    )


def _positive(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{name} is {text!r}; a whole number from 1")
    return int(text)
