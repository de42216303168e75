"""What goes on: the queue of studies with what trains now, and the state of the service's parts."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from fastapi import APIRouter, Request, Response

from api.access.callers import HolderOf
from api.behind.endpoints import RAY
from api.dependencies import SettingsOf
from api.embedded.advice import of_parts
from api.embedded.health import status
from api.embedded.stack import load_stack
from api.pages.dependencies import MLflowOf, ReadingOf
from api.pages.web import page, router
from orchestrator.access.schema import Scope
from orchestrator.machine import StudyState
from orchestrator.records.schema import Place, Study
from orchestrator.troubles import troubles

TRIALS = 100
SILENT_SECONDS = 30
routes: APIRouter = router()


@dataclass(frozen=True)
class Loop:
    """A loop of the orchestrator. seconds: since it was seen. trouble: what is wrong; empty: nothing."""

    name: str
    seconds: float
    trouble: str


@dataclass(frozen=True)
class Waiting:
    """A study with trials that wait for devices. number: its place, 1 is next; None before the broker has looked. expected: when its next
    trial is thought to start, in milliseconds since 1970; None where nobody can tell."""

    study: Study
    number: int | None
    reason: str
    expected: int | None


@routes.get("/queue")
def queue(request: Request, reading: ReadingOf) -> Response:
    """Who has devices, who waits for them and why, in the broker's order, and the trials that run."""
    busy = reading.busy()
    return page(
        request,
        "queue.html",
        running=[study for study in busy if study.state != StudyState.QUEUED],
        waiting=_waiting(busy, reading.store.places()),
        held=reading.store.devices_held(),
        names={study.id: study.name for study in busy},
        progress=reading.progress(busy),
        trials=reading.running_trials(TRIALS),
        last_event=reading.last_event(),
    )


@routes.get("/status")
def parts(request: Request, reading: ReadingOf, settings: SettingsOf, mlflow: MLflowOf, holder: HolderOf) -> Response:
    """Parts, loops and troubles."""
    now = reading.store.now()
    loops = [_loop(beat.name, (now - beat.time) / 1000, beat.trouble) for beat in reading.heartbeats()]
    stack = load_stack(settings.home)  # none where somebody else runs the parts
    found = status(stack) if stack else []
    advice = of_parts(stack, found, now / 1000) if stack else []
    disk = shutil.disk_usage(settings.home if settings.home.exists() else settings.home.parent)
    return page(
        request,
        "status.html",
        parts=found,
        loops=loops,
        troubles=[*advice, *troubles(reading.store, settings)],
        untold=reading.untold(),
        database=reading.store.engine.url.render_as_string(hide_password=True),
        settings=settings,
        mlflow=mlflow,
        ray=RAY if request.app.state.behind_login and holder.scope.holds(Scope.ADMIN) else None,
        free=disk.free / 2**30,
        versions={"Retort": version("retort"), "Python": sys.version.split()[0]},
    )


def _waiting(busy: Sequence[Study], places: Sequence[tuple[Place, Study]]) -> list[Waiting]:
    """In the order of the queue; what just came, and the broker has not looked at, is at its end."""
    placed = [Waiting(study, place.number, place.reason, place.expected) for place, study in places]
    known = {each.study.id for each in placed}
    new = [study for study in busy if study.state == StudyState.QUEUED and study.id not in known]
    return [*placed, *(Waiting(study, None, "is about to be looked at", None) for study in new)]


def _loop(name: str, seconds: float, trouble: str) -> Loop:
    return Loop(name, seconds, trouble or (f"silent for {round(seconds)} s" if seconds > SILENT_SECONDS else ""))
