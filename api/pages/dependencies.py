"""What pages are given: the database as they read it, and where they link MLflow."""

from typing import Annotated

from fastapi import Depends, Request

from api.behind.endpoints import MLFLOW
from api.dependencies import SettingsOf, StoreOf
from api.pages.reading import Reading


def _reading(request: Request, store: StoreOf) -> Reading:
    kept: Reading | None = getattr(request.app.state, "reading", None)
    if kept is None or kept.store is not store:
        kept = request.app.state.reading = Reading(store)
    return kept


def _mlflow(request: Request, settings: SettingsOf) -> str:
    """Below this service where it serves it, under whichever of its names the page was opened."""
    return MLFLOW if request.app.state.behind_login else settings.mlflow_ui


MLflowOf = Annotated[str, Depends(_mlflow)]
ReadingOf = Annotated[Reading, Depends(_reading)]
