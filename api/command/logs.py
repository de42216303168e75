"""`retort logs`: what a study's drivers or one of its trials printed, made safe for a terminal."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from studies.inert import one_line

if TYPE_CHECKING:
    from api.client import Client

ASK_SECONDS = 1.0


def log_lines(client: "Client", study: int, trial: str | None, follow: bool, sleep: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """The lines, inert; with `follow` also those to come, until the study is at rest."""
    cursor = None
    while True:
        piece = client.logs(study, trial, cursor)
        cursor = piece["cursor"]
        yield from (inert(line) for line in piece["text"].splitlines())
        if piece["more"]:
            continue
        if not follow or piece["ended"]:
            return
        sleep(ASK_SECONDS)


def inert(line: str) -> str:
    """The line without what steers a terminal; its indentation stays."""
    return " " * (len(line) - len(line.lstrip(" "))) + one_line(line)
