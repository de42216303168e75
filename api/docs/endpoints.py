"""Routes of the OpenAPI document and of its page, which loads nothing from elsewhere: it works without the internet."""

from importlib.resources import files
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from api.access.callers import needs
from api.access.gate import HEADERS
from orchestrator.access.schema import Scope

_PACKAGE = files("fastapi_offline") / "static"  # Swagger UI as it is published, kept up to date there
_TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  validatorUrl: null,
})
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Retort: REST</title>
<link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div><script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>
"""
_POLICY = HEADERS["Content-Security-Policy"].replace(
    "style-src 'unsafe-inline'", "script-src 'self'; connect-src 'self'; style-src 'self' 'unsafe-inline'"
)
router = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])


@router.get("/openapi.json")
def document(request: Request) -> dict[str, Any]:
    """The routes and what they take and answer."""
    schema: dict[str, Any] = request.app.openapi()
    return schema


@router.get("/docs")
def page() -> HTMLResponse:
    """The document, browsable."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})


@router.get("/docs/start.js")
def start() -> Response:
    """What starts the page; a file of its own, since no script within a page may run."""
    return Response(_START, media_type="text/javascript")


@router.get("/docs/{name}")
def asset(name: Literal["swagger-ui-bundle.js", "swagger-ui.css"]) -> Response:
    """A file of Swagger UI."""
    return Response((_PACKAGE / name).read_bytes(), media_type=_TYPES[name], headers={"Cache-Control": "private, max-age=86400"})
