"""What endpoints are given: the store of this service and its settings."""

from typing import Annotated

from fastapi import Depends, Request

from orchestrator.records.store import Store
from orchestrator.settings import Settings


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


StoreOf = Annotated[Store, Depends(_store)]
SettingsOf = Annotated[Settings, Depends(_settings)]
