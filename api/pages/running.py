"""What goes on: the queue of studies with what trains now, and the state of the service's parts."""

import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import version

from fastapi import APIRouter, Request, Response

from api.access.callers import HolderOf
from api.behind.endpoints import RAY
from api.dependencies import SettingsOf
from api.embedded.health import PartStatus, status
from api.embedded.stack import load_stack
from api.pages.dependencies import MLflowOf, ReadingOf
from api.pages.web import page, router
from orchestrator.access.schema import Scope
from orchestrator.machine import StudyState
from orchestrator.settings import Settings

TRIALS = 100
SILENT_SECONDS = 30
routes: APIRouter = router()


@dataclass(frozen=True)
class Loop:
    """A loop of the orchestrator. seconds: since it was seen. trouble: what is wrong; empty: nothing."""

    name: str
    seconds: float
    trouble: str


@routes.get("/queue")
def queue(request: Request, reading: ReadingOf, settings: SettingsOf) -> Response:
    """Studies that are not at rest in the order in which they start, and the trials that run."""
    busy = reading.busy()
    return page(
        request,
        "queue.html",
        running=[study for study in busy if study.state != StudyState.QUEUED],
        waiting=[study for study in busy if study.state == StudyState.QUEUED],
        names={study.id: study.name for study in busy},
        progress=reading.progress(busy),
        trials=reading.running_trials(TRIALS),
        at_once=settings.concurrent_studies,
        last_event=reading.last_event(),
    )


@routes.get("/status")
def parts(request: Request, reading: ReadingOf, settings: SettingsOf, mlflow: MLflowOf, holder: HolderOf) -> Response:
    """Parts, loops and troubles."""
    now = reading.store.now()
    loops = [_loop(beat.name, (now - beat.time) / 1000, beat.trouble) for beat in reading.heartbeats()]
    disk = shutil.disk_usage(settings.home if settings.home.exists() else settings.home.parent)
    return page(
        request,
        "status.html",
        parts=_parts(settings),
        loops=loops,
        untold=reading.untold(),
        database=reading.store.engine.url.render_as_string(hide_password=True),
        settings=settings,
        mlflow=mlflow,
        ray=RAY if request.app.state.behind_login and holder.scope.holds(Scope.ADMIN) else None,
        free=disk.free / 2**30,
        versions={"Retort": version("retort"), "Python": sys.version.split()[0]},
    )


def _loop(name: str, seconds: float, trouble: str) -> Loop:
    return Loop(name, seconds, trouble or (f"silent for {round(seconds)} s" if seconds > SILENT_SECONDS else ""))


def _parts(settings: Settings) -> list[PartStatus]:
    """Those of the embedded stack that this service belongs to; none where somebody else runs them."""
    stack = load_stack(settings.home)
    return status(stack) if stack else []
