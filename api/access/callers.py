"""Who asks, and what each route asks of them: every route states its scope, or that it is open to all.

@router.post("", dependencies=[needs(Scope.SUBMIT)])
def submit(holder: HolderOf, ...): ...
"""

import functools
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.routing import iter_route_contexts
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.access.limits import Limits
from api.problems import ProblemError
from orchestrator.access.audit import Audit
from orchestrator.access.schema import Scope
from orchestrator.access.tokens import Holder, Tokens

_bearer = HTTPBearer(auto_error=False, description="a token: `retort token create`; the operator's own is in $RETORT_HOME/token")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def tokens_of(request: Request) -> Tokens:
    """The tokens of this service."""
    tokens: Tokens = request.app.state.tokens
    return tokens


def limits_of(request: Request) -> Limits:
    """What is left to each token."""
    limits: Limits = request.app.state.limits
    return limits


def cookie_name(request: Request) -> str:
    """A browser's cookies are shared by all ports of a host; so each service has a name of its own there."""
    return f"retort_session_{request.url.port or request.url.scheme}"


def holder_of(request: Request) -> Holder:
    """Who asks; known behind `needs`."""
    holder: Holder = request.state.holder
    return holder


def _audit(request: Request) -> Audit:
    return Audit(request.app.state.store)


TokensOf = Annotated[Tokens, Depends(tokens_of)]
HolderOf = Annotated[Holder, Depends(holder_of)]
AuditOf = Annotated[Audit, Depends(_audit)]


@functools.cache
def needs(scope: Scope) -> Any:
    """The dependency of a route that asks for a scope. Raises ProblemError: 401 (nobody known), 403 (too little), 429."""

    def authorised(request: Request, credentials: Credentials) -> None:
        holder = _known(request, credentials)
        limits_of(request).take_request(holder)
        if not holder.scope.holds(scope):
            raise ProblemError(
                403, "insufficient-scope", "Not allowed", f"this needs the scope {scope}; the token {holder.name!r} has {holder.scope}"
            )
        request.state.holder = holder

    authorised.scope = scope  # type: ignore[attr-defined]
    return Depends(authorised)


def _open() -> None:
    """Anybody may ask."""


open_to_all = Depends(_open)


def _known(request: Request, credentials: HTTPAuthorizationCredentials | None) -> Holder:
    tokens = tokens_of(request)
    if credentials:
        holder = tokens.holder(credentials.credentials)
        if holder is None:
            raise NotKnown("this token is not valid: unknown, expired or revoked")
        return holder
    cookie = request.cookies.get(cookie_name(request))
    holder = tokens.holder_of_session(cookie) if cookie else None
    if holder is None:
        raise NotKnown("a token is asked for, as `Authorization: Bearer ...`; the `retort` command has one where the stack is its own")
    if request.method not in ("GET", "HEAD") and "origin" not in request.headers:
        raise ProblemError(403, "foreign-origin", "Not allowed", "a change by a browser's session says where it comes from (Origin)")
    return holder


class NotKnown(ProblemError):
    """401: nobody known asks."""

    def __init__(self, detail: str) -> None:
        super().__init__(401, "unauthorized", "Who asks is not known", detail)
        self.headers["WWW-Authenticate"] = "Bearer"


def refuse_others(holder: Holder, owner: str | None, what: str) -> None:
    """Only an owner and an administrator change what is somebody's. Raises ProblemError 403."""
    if owner is not None and owner != holder.owner and not holder.scope.holds(Scope.ADMIN):
        raise ProblemError(403, "not-the-owner", "Not allowed", f"{what} is {owner}'s; they may change it, and an administrator")


def stated_scopes(app: FastAPI) -> dict[str, Scope | None]:
    """What every route of the service asks for ("GET /v1/studies"), None where it is open. Raises LookupError for one that does not say."""
    found: dict[str, Scope | None] = {}
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        calls: list[Callable[..., Any]] = [each.call for each in dependant.dependencies] if dependant else []
        scopes = [call.scope for call in calls if hasattr(call, "scope")]
        for method in sorted(getattr(route, "methods", None) or {"*"}):
            name = f"{method} {route.path}"
            if not scopes and _open not in calls:
                raise LookupError(f"{name} states no scope: needs(Scope....), or open_to_all")
            found[name] = max(scopes, key=list(Scope).index, default=None)
    return found
