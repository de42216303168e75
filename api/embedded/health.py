"""How the parts of a running stack are: whether each answers, and which of them fail again and again."""

import contextlib
import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from api.access.settings import access_settings
from api.embedded import supervisord
from api.embedded.part import FREE_STARTS, RECENT_SECONDS, recent, starts, starts_file
from api.embedded.processes import stands_still
from api.embedded.stack import Part, Stack
from studies.inert import one_line

STUCK_SECONDS = 300.0  # a loop of the orchestrator that takes longer for a round is stuck; a round may upload pictures


@dataclass(frozen=True)
class PartStatus:
    """How a part is.

    state: as supervisord names it (RUNNING, BACKOFF, ...). pid: 0 when it does not run. since: its start, seconds since 1970.
    health: what is wrong, empty when all is well. failing: how often it was started of late and what its log says, empty unless it is
    restarted again and again.
    """

    part: Part
    state: str
    pid: int
    since: float
    health: str
    failing: str = ""

    @property
    def well(self) -> bool:
        return self.state == "RUNNING" and not self.health and not self.failing


def status(stack: Stack) -> list[PartStatus]:
    """How every part is, now."""
    infos = supervisord.process_infos(stack)
    ready = readiness(stack)
    found = []
    for part in stack.parts():
        info = infos.get(part.name, {"statename": "STOPPED" if supervisord.process(stack) else "UNWATCHED", "pid": 0, "start": 0})
        wrong = "stands still" if _stopped(info["pid"]) else health(stack, part, ready)
        found.append(PartStatus(part, info["statename"], info["pid"], info["start"], wrong, _failing(stack, part)))
    return found


def _stopped(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return pid > 0 and stands_still(psutil.Process(pid))
    return False


def _failing(stack: Stack, part: Part) -> str:
    """Told of a part that was started again and again, the last time within the last minute or so, with the last error in its log."""
    now = time.time()
    late = recent(starts(starts_file(Path(stack.home), part.name)), now)
    if len(late) <= FREE_STARTS or now - late[-1].time > RECENT_SECONDS / 10:
        return ""
    lines = supervisord.last_lines(stack, part.name).splitlines() or [""]
    # Servers say why, and then good-bye; in parentheses stands where to read more.
    telling = next((line for line in reversed(lines) if "error" in line.lower() and not line.startswith("(")), lines[-1])
    return f"started {len(late)} times within {round((now - late[0].time) / 60) or 1} min; its log says: {one_line(telling).rstrip('.')}"


def answers(stack: Stack, part: Part, ready: dict[str, Any] | None) -> bool:
    """Whether the part itself is there, whatever it has to complain about. `ready`: what the service says of itself."""
    if part.name == "api":
        return ready is not None
    if part.health is None:  # judged by its heartbeat, which the service tells; where there is none to tell, it is not to blame
        silent = ready["orchestrator"].get("last_seen_seconds") if ready and part.name == "orchestrator" else None
        return silent is None or silent < STUCK_SECONDS
    answer = get(stack, part.health)
    return answer is not None and answer.status_code == 200


def health(stack: Stack, part: Part, ready: dict[str, Any] | None) -> str:
    """Empty when the part answers; else what is wrong. The orchestrator has no port: the service tells when it was last seen."""
    if part.name == "api":
        return "does not answer" if ready is None else "" if ready["database"] == "ok" else f"the database {ready['database']}"
    if part.name == "orchestrator":
        return "unknown while the API does not answer" if ready is None else str(ready["orchestrator"]["trouble"])
    if part.health is None:
        return ""
    answer = get(stack, part.health)
    if answer is None:
        return "does not answer"
    return "" if answer.status_code == 200 else f"answers {answer.status_code}: {answer.text[:200]}"


def readiness(stack: Stack) -> dict[str, Any] | None:
    """What this stack's service says of itself; None where nothing answers, or somebody else."""
    answer = get(stack, stack.url("api") + "/readyz")
    with contextlib.suppress(ValueError, AttributeError):
        if answer is not None and answer.json().get("stack") == stack.id:
            return dict(answer.json())
    return None


@functools.cache
def _http() -> httpx.Client:
    """One client for all questions: making one costs more than asking."""
    return httpx.Client(timeout=3, trust_env=False)


def get(stack: Stack, url: str) -> httpx.Response | None:
    """The answer of a part, None where there is none. Ray's dashboard and the service are shown their tokens."""
    tokens = {stack.url("dashboard"): stack.token, stack.url("api"): access_settings(Path(stack.home)).token_file}
    headers = {}
    for address, token in tokens.items():
        with contextlib.suppress(FileNotFoundError):
            if url.startswith(address):
                headers = {"Authorization": f"Bearer {token.read_text().strip()}"}
    try:
        return _http().get(url, headers=headers)
    except httpx.HTTPError:
        return None
