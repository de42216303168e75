"""What is wrong with the embedded stack and what to do about it, in sentences."""

from collections.abc import Sequence
from pathlib import Path

from api.embedded import supervisord
from api.embedded.health import PartStatus, get
from api.embedded.stack import Stack
from api.embedded.watchdog import STILL_SECONDS
from orchestrator.troubles import disk_troubles
from studies.inert import one_line

STARTING_SECONDS = 60.0


def advice(stack: Stack, parts: Sequence[PartStatus], now: float) -> list[str]:
    """One sentence a trouble, of the parts and of what keeps studies from running; none when all is well. now: seconds since 1970."""
    if not supervisord.process(stack):
        return ["nothing watches over the parts, their supervisor is gone; the watchdog starts it again, else: retort up"]
    told = of_parts(stack, parts, now)
    answer = get(stack, stack.url("api") + "/v1/troubles")
    if answer is not None and answer.status_code == 200:
        return told + [one_line(each) for each in answer.json()["troubles"]]
    return told + disk_troubles(Path(stack.home))


def of_parts(stack: Stack, parts: Sequence[PartStatus], now: float) -> list[str]:
    """What is wrong with the parts alone."""
    return [line for part in parts if (line := _of_part(stack, part, now))]


def _of_part(stack: Stack, status: PartStatus, now: float) -> str:
    part, log = status.part, stack.logs / f"{status.part.name}.log"
    if status.failing:
        return f"{part.title} fails again and again: {status.failing}. It is tried every 30 s; its log: {log}"
    if status.state in {"FATAL", "STOPPED", "EXITED", "UNKNOWN"}:
        return f"{part.title} does not run; start it with `retort up`. Its log: {log}"
    if status.health == "stands still":
        told = f"{part.title} stands still, process {status.pid} was stopped (SIGSTOP)"
        return f"{told}; it is started again after {STILL_SECONDS:.0f} s, and `kill -CONT {status.pid}` wakes it up"
    if part.name == "api" and status.health.startswith("the database"):
        return f"the API cannot reach the database ({status.health}); studies wait and lose nothing until it is back. Its log: {log}"
    if status.health == "does not answer":
        if now - status.since < STARTING_SECONDS:
            return f"{part.title} is starting"
        told = f"{part.title} does not answer{_meanwhile(part.name)}"
        return f"{told}; it is started again after {STILL_SECONDS:.0f} s of silence. Its log: {log}"
    return ""


def _meanwhile(name: str) -> str:
    """What goes on without the part."""
    return {
        "mlflow": " (studies go on, and it is told everything later)",
        "api": " (studies go on)",
        "ray": " (trials that run may go on; new ones wait)",
    }.get(name, "")
