"""What all pages share: their route class, the templates, the headers that they are sent with, and forms.

A page runs no script and takes no style but those of `static/`, and loads nothing from another host: its Content-Security-Policy says so.
"""

from collections.abc import Callable, Coroutine
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.access.callers import NotKnown, needs
from api.pages import wording
from api.pages.assets import asset
from api.problems import ProblemError
from orchestrator.access.schema import Scope
from orchestrator.access.tokens import Holder

HERE = Path(__file__).resolve().parent
MAX_FORM_BYTES = 300_000
SUBMITS = [needs(Scope.SUBMIT)]
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class PageRoute(APIRoute):
    """A route whose errors are pages too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except ProblemError as error:
                if isinstance(error, NotKnown) and request.method == "GET":
                    raise  # the form to log in
                return _failed(request, error.status, error.document.title, error.document.detail)
            except RequestValidationError as error:
                told = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
                return _failed(request, 422, "The request is not valid", told)

        return handled


def router() -> APIRouter:
    """A router of pages: answered as HTML, no part of the REST interface, and for those who may read."""
    return APIRouter(route_class=PageRoute, include_in_schema=False, default_response_class=HTMLResponse, dependencies=[needs(Scope.READ)])


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A rendered page. `values`: what its template names."""
    holder: Holder | None = getattr(request.state, "holder", None)
    known = {
        "path": request.url.path,
        "url_with": lambda **changes: _url_with(request, changes),
        "who": holder.owner if holder else None,
        "may_submit": holder is not None and holder.scope.holds(Scope.SUBMIT),
        "may_change": lambda owner: holder is not None and _may_change(holder, owner),
    }
    return HTMLResponse(environment().get_template(template).render(**known, **values), status, headers=HEADERS)


def see(address: str) -> RedirectResponse:
    """After a form: where its result is."""
    return RedirectResponse(address, HTTPStatus.SEE_OTHER, headers=HEADERS)


async def form(request: Request) -> dict[str, str]:
    """The fields of a submitted form, the last of each name. Raises ProblemError where it is too large or no form."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise ProblemError(415, "invalid-request", "The request is not valid", "Content-Type: a form is application/x-www-form-urlencoded")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise ProblemError(413, "invalid-request", "The request is too large", f"a form is at most {MAX_FORM_BYTES:,} bytes")
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, strict_parsing=False, errors="strict", max_num_fields=50)
    except (UnicodeDecodeError, ValueError):
        raise ProblemError(400, "invalid-request", "The request is not valid", "the form is not readable as UTF-8 text") from None
    return {name: values[-1] for name, values in fields.items()}


@cache
def environment() -> Environment:
    """The templates. Every value is escaped: a title with markup stays text."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.globals["asset"] = asset
    made.filters.update(wording.FILTERS)
    made.globals.update(wording.GLOBALS)
    return made


def _may_change(holder: Holder, owner: str | None) -> bool:
    """Whether a holder is asked for nothing more when they change what is somebody's."""
    return holder.scope.holds(Scope.SUBMIT) and (owner in (None, holder.owner) or holder.scope.holds(Scope.ADMIN))


def _url_with(request: Request, changes: dict[str, object]) -> str:
    """This page's address with other parameters; None takes one away."""
    return str(request.url.remove_query_params(list(changes)).include_query_params(**{k: v for k, v in changes.items() if v is not None}))


def _failed(request: Request, status: int, title: str, detail: str) -> HTMLResponse:
    return page(request, "error.html", status, title=title, detail=detail, status_code=status)
