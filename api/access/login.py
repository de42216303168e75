"""How a browser becomes known: a link that opens the pages once, or a token typed in; then a cookie that no script reads.

Pages and forms only, without any script. The cookie is sent for requests of this site's own pages alone (SameSite=Strict).
"""

import html
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from api.access.callers import NotKnown, TokensOf, cookie_name, open_to_all
from api.access.gate import HEADERS
from api.problems import answer
from orchestrator.access.tokens import SESSION_SECONDS, Holder, Tokens

HOME = "/studies"  # what is shown after a login that was for nothing in particular
_MAX_FORM = 4000  # bytes
_FORM_POLICY = HEADERS["Content-Security-Policy"].replace("form-action 'none'", "form-action 'self'")
_ICON = '<link rel=icon href="/static/icon.svg">'
_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem }
input { max-width: 100% }
"""
router = APIRouter(include_in_schema=False, dependencies=[open_to_all])


@router.get("/login")
def login(request: Request, tokens: TokensOf, link: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Follow a link, or ask for a token."""
    if not link:
        return login_page(HOME)
    holder = tokens.follow(link)
    if holder is None:
        return login_page(HOME, "This link was used already, or is too old. A new one: retort link")
    return _welcome(request, tokens, holder, HOME)


@router.post("/login")
async def login_with_token(request: Request, tokens: TokensOf) -> Response:
    """The token of the form, for a cookie."""
    form = await _form(request)
    holder = await run_in_threadpool(tokens.holder, form.get("token", "").strip())
    if holder is None:
        return login_page(form.get("next", HOME), "This token is not valid: unknown, expired or revoked.")
    return await run_in_threadpool(_welcome, request, tokens, holder, form.get("next", HOME))


@router.post("/logout")
def logout(request: Request, tokens: TokensOf) -> Response:
    """The session is over."""
    if cookie := request.cookies.get(cookie_name(request)):
        tokens.leave(cookie)
    page = login_page(HOME, "You are logged out.", status=200)
    page.delete_cookie(cookie_name(request), httponly=True, samesite="strict")
    return page


def install(app: FastAPI) -> None:
    """A browser that is not known and wants a page gets the form; whatever else asks gets the problem document."""

    @app.exception_handler(NotKnown)
    async def _ask(request: Request, error: NotKnown) -> Response:
        wants_page = (
            request.method == "GET" and "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/")
        )
        if not wants_page:
            return answer(error)
        return login_page(f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path)


def login_page(following: str, said: str = "", status: int = 401) -> Response:
    """The form that asks for a token, and what was wrong. following: the path to show then."""
    told = f"<p role=alert>{html.escape(said)}</p>" if said else ""
    return _page(
        f"{told}<p>Open the link that <code>retort up</code> has printed (<code>retort link</code> prints another), or give a token:</p>"
        f'<form method=post action="/login"><input type=hidden name=next value="{html.escape(_own_path(following))}">'
        '<label>Token <input name=token type=password required autofocus autocomplete="current-password" size=55></label> '
        "<button>Log in</button></form>",
        status,
        _FORM_POLICY,
    )


def _welcome(request: Request, tokens: Tokens, holder: Holder, following: str) -> Response:
    """Sets the cookie. A page that moves on by itself, since a redirection from another site's link would not bring the cookie along."""
    path = html.escape(_own_path(following))
    page = _page(f'<meta http-equiv=refresh content="0; url={path}"><p><a href="{path}">Go on</a></p>', 200)
    page.set_cookie(
        cookie_name(request),
        tokens.session(holder.token_id),
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return page


def _page(content: str, status: int, policy: str = HEADERS["Content-Security-Policy"]) -> Response:
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>Retort</title>{_ICON}<style>{_STYLE}</style>"
    text = f"<!doctype html><html lang=en><head>{head}</head><body><main><h1>Retort</h1>{content}</main></body></html>"
    return HTMLResponse(text, status, {"Content-Security-Policy": policy, "Cache-Control": "no-store"})


def _own_path(path: str) -> str:
    """A path of this service; never another site, which "//elsewhere" and "/\\elsewhere" are for a browser."""
    return path if path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable() else HOME


async def _form(request: Request) -> dict[str, str]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM:
            return {}
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
