"""Routes of the OpenAPI document and its page."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from api.access.callers import needs
from orchestrator.access.schema import Scope

router = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])


@router.get("/openapi.json")
def document(request: Request) -> dict[str, Any]:
    """The routes and what they take and answer."""
    schema: dict[str, Any] = request.app.openapi()
    return schema


@router.get("/docs")
def page() -> HTMLResponse:
    """The document, browsable."""
    return get_swagger_ui_html(openapi_url="/openapi.json", title="Retort")
