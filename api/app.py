"""The service as an ASGI application: `uvicorn --factory api.app:create_app`, configured by the environment alone."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from api import problems
from api.access import endpoints as access
from api.access import login
from api.access.callers import stated_scopes
from api.access.gate import Gate
from api.access.keeping import keeping
from api.access.limits import Limits
from api.access.operator import operator_name, operator_token
from api.access.schemas import NewToken
from api.access.settings import AccessSettings, access_settings
from api.behind.endpoints import behind
from api.catalog import endpoints as catalog
from api.checks import endpoints as checks
from api.docs import endpoints as docs
from api.figures import endpoints as figures
from api.garbage import endpoints as garbage
from api.health import endpoints as health
from api.logs import endpoints as logs
from api.metrics import endpoints as metrics
from api.outbox import endpoints as outbox
from api.pages import endpoints as pages
from api.plans import endpoints as plans
from api.problems import ProblemDocument
from api.queue import endpoints as queue
from api.queue.schemas import Quota
from api.schedules import endpoints as schedules
from api.schedules.schemas import schedule_schemas
from api.searches import endpoints as searches
from api.studies import endpoints as studies
from api.studies.schemas import study_schemas
from api.tables import endpoints as tables
from api.webhooks import endpoints as webhooks
from api.webhooks.schemas import NewWebhook
from orchestrator.access.schema import Scope
from orchestrator.access.tokens import Tokens
from orchestrator.records.store import Store
from orchestrator.settings import Settings, settings
from orchestrator.storage.files import opened_files

_REFUSALS = {"401": "nobody known asks", "403": "not allowed", "429": "too many requests"}


def create_app(configured: Settings | None = None, access_configured: AccessSettings | None = None) -> FastAPI:
    """The service on the database of `configured` (default: the environment's), which is reached as `access_configured` says."""
    chosen = configured or settings()
    reached = access_configured or access_settings(chosen.home)
    forwarded, servers = behind(chosen) if reached.behind_login else (None, [])

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        known: Settings = app.state.settings
        app.state.store = Store(known.database, files=opened_files(known))
        app.state.tokens = Tokens(app.state.store)
        app.state.tokens.take_from_file(operator_token(app.state.token_file), operator_name())
        async with keeping(app.state.tokens):
            yield
        for server in servers:
            await server.close()
        app.state.store.close()

    app = FastAPI(
        title="Retort",
        summary="Distillation studies for object detectors",
        version=version("retort"),
        lifespan=lifespan,
        openapi_url=None,  # ours asks for a token
        docs_url=None,
        redoc_url=None,
    )
    configure(app, chosen, reached)
    app.add_middleware(Gate, names=reached.hosts)
    problems.install(app)
    login.install(app)
    of_studies = (
        studies.router,
        studies.plans,
        plans.router,
        tables.router,
        figures.router,
        searches.router,
        logs.router,
        schedules.router,
        queue.queue,
    )
    of_access = (queue.owners, access.tokens, access.others, login.router)
    of_health = (outbox.router, garbage.router, health.router, health.watched, metrics.router)
    for router in (*of_studies, catalog.router, checks.router, *of_access, webhooks.router, *of_health, docs.router, pages.router):
        app.include_router(router)
    if forwarded:
        app.include_router(forwarded)
    _describe(app)
    return app


def configure(app: FastAPI, chosen: Settings, reached: AccessSettings) -> None:
    """What the service reads when it starts and while it answers; its names and what is behind it are those that it was made with."""
    app.state.settings = chosen
    app.state.token_file = reached.token_file
    app.state.limits = Limits(reached)
    app.state.behind_login = reached.behind_login


def _describe(app: FastAPI) -> None:
    """Has OpenAPI told in full, when somebody asks for it. Raises LookupError at once where a route states no scope."""
    scopes, plain, describing = stated_scopes(app), app.openapi, threading.Lock()

    def described() -> dict[str, Any]:
        with describing:
            if app.openapi_schema is None:
                _describe_all(plain(), scopes)
        assert app.openapi_schema
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _describe_all(schema: dict[str, Any], scopes: dict[str, Scope | None]) -> None:
    """OpenAPI that knows the spec (its endpoints read the body themselves), what each route asks for, and errors as problem documents."""
    schemas = schema["components"]["schemas"]
    schemas.update(study_schemas())
    schemas.update(schedule_schemas())
    for model in (NewToken, NewWebhook, Quota, ProblemDocument):
        definition = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(definition.pop("$defs", {}))
        schemas[model.__name__] = definition
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for route, scope in scopes.items():
        method, path = route.split(" ", 1)
        operation = schema["paths"].get(path, {}).get(method.lower())
        if operation:
            _describe_access(operation, method, scope)


def _describe_access(operation: dict[str, Any], method: str, scope: Scope | None) -> None:
    """What a route asks of who asks, and how it refuses."""
    refusals = {"403": _REFUSALS["403"]} if scope is None else dict(_REFUSALS)
    if method not in ("GET", "HEAD"):
        refusals["415"] = "neither JSON nor YAML"
    for status, told in refusals.items():
        content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
        operation["responses"].setdefault(status, {"description": told, "content": content})
    if scope is not None:
        operation["x-scope"] = scope.value
        operation["description"] = f"{operation.get('description', '')}\n\nScope: `{scope}`."
