"""Routes of health. `/healthz`: the process lives. `/readyz`: it reaches its database; with what the orchestrator's loops last said."""

import logging
import os
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from api.access.callers import open_to_all
from api.dependencies import SettingsOf, StoreOf
from orchestrator.records.store import Store
from orchestrator.troubles import troubles

_SILENT_SECONDS = 30
_log = logging.getLogger(__name__)


class Alive(BaseModel):
    """The process answers."""

    status: str = "ok"
    version: str = Field(description="of Retort")


class Orchestrator(BaseModel):
    """The loops that run studies."""

    last_seen_seconds: float | None = Field(description="since the loop that was silent longest was seen; null: never")
    trouble: str = Field(description="what keeps studies from running; empty: nothing")


class Ready(BaseModel):
    """Whether requests can be served. A silent orchestrator does not hinder that: studies wait in the queue."""

    status: str
    stack: str | None = Field(description="the embedded stack that this service belongs to")
    database: str = Field(description="ok, or what is wrong")
    orchestrator: Orchestrator


router = APIRouter(tags=["health"], dependencies=[open_to_all])


@router.get("/healthz")
def healthz() -> Alive:
    """The process lives."""
    return Alive(version=version("retort"))


class Troubles(BaseModel):
    """What keeps studies from running."""

    troubles: list[str] = Field(description="a sentence each, with what to do; the gravest first")


@router.get("/v1/troubles")
def troubles_now(store: StoreOf, settings: SettingsOf) -> Troubles:
    """What is wrong, or waits and for what; empty when all is well."""
    return Troubles(troubles=troubles(store, settings))


def _ready(store: StoreOf) -> Ready:
    stack = os.environ.get("RETORT_STACK")
    try:
        return Ready(status="ok", stack=stack, database="ok", orchestrator=_orchestrator(store))
    except SQLAlchemyError as error:
        _log.warning("the database does not answer: %s", error)
        unknown = Orchestrator(last_seen_seconds=None, trouble="unknown without the database")
        return Ready(status="unavailable", stack=stack, database=f"does not answer ({type(error).__name__})", orchestrator=unknown)


@router.get("/readyz", responses={503: {"model": Ready, "description": "The database does not answer"}})
def readyz(ready: Annotated[Ready, Depends(_ready)], response: Response) -> Ready:
    """Whether requests can be served."""
    response.status_code = 200 if ready.status == "ok" else 503
    return ready


def _orchestrator(store: Store) -> Orchestrator:
    now = store.now()
    beats = [((now - beat.time) / 1000, beat) for beat in store.heartbeats()]
    if not beats:
        return Orchestrator(last_seen_seconds=None, trouble="it has never been seen")
    troubles = [f"{beat.name}: {beat.trouble}" for _, beat in beats if beat.trouble]
    troubles += [
        f"MLflow was not told {aside.rows} things of study {aside.study_id} ({aside.trouble}); once that is mended: retort resend"
        for aside in store.set_aside()
    ]
    troubles += [f"{beat.name}: silent for {round(age)} s" for age, beat in beats if age > _SILENT_SECONDS]
    return Orchestrator(last_seen_seconds=max(0.0, max(age for age, _ in beats)), trouble="; ".join(troubles))
