"""The service as an ASGI application: `uvicorn --factory api.app:create_app`, configured by the environment alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from api import problems
from api.catalog import endpoints as catalog
from api.figures import endpoints as figures
from api.health import endpoints as health
from api.pages import endpoints as pages
from api.plans import endpoints as plans
from api.problems import ProblemDocument
from api.schedules import endpoints as schedules
from api.schedules.schemas import schedule_schemas
from api.studies import endpoints as studies
from api.studies.schemas import study_schemas
from api.tables import endpoints as tables
from orchestrator.settings import Settings, settings
from orchestrator.store import Store


def create_app(configured: Settings | None = None) -> FastAPI:
    """The service on the database of `configured` (default: the environment's)."""
    chosen = configured or settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.store = Store(chosen.database)
        yield
        app.state.store.close()

    app = FastAPI(
        title="Retort",
        summary="Distillation studies for object detectors",
        version=version("retort"),
        lifespan=lifespan,
        docs_url=None,  # api.pages.interface is the page there
        redoc_url=None,
    )
    app.state.settings = chosen
    problems.install(app)
    of_studies = (studies.router, studies.plans, plans.router, tables.router, figures.router, schedules.router)
    for router in (*of_studies, catalog.router, health.router, pages.router):
        app.include_router(router)
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """OpenAPI that knows the spec (its endpoints read the body themselves) and answers errors as problem documents."""
    schema: dict[str, Any] = app.openapi()
    schemas = schema["components"]["schemas"]
    schemas.update(study_schemas())
    schemas.update(schedule_schemas())
    definitions = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(definitions.pop("$defs"))
    schemas["ProblemDocument"] = definitions
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
