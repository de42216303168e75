"""A request as another server gets it, and its answer as it streams back. Nothing that says who asked goes there, no cookie comes back.

The pages of MLflow and of Ray's dashboard name everything relative to their own address, so they work below a prefix without knowing of it.
"""

from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
from fastapi import Request, Response
from starlette.responses import StreamingResponse

from api.access.callers import holder_of, limits_of
from api.bodies import bounded_body
from api.problems import ProblemError

# Of a request: whom it is from stays here (the session, the token, the page), and what is of one connection only.
_KEPT_HERE = {"authorization", "cookie", "origin", "referer", "host", "content-length", "forwarded"}
_OF_A_CONNECTION = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
# Of an answer: who may read it and what it may load is ours to say.
_OURS = {"set-cookie", "content-security-policy", "server", "date", "location"}
_SECONDS = httpx.Timeout(60, connect=5)
_IN_A_PATH = "/:@!$&'()*+,;=~"
# What the two applications run and load: their own scripts, and styles that they make as they go. Nothing of another host.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; frame-src 'self' blob:; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Behind:
    """A server that is reached through this one. name: in words. base: its address."""

    def __init__(self, name: str, base: str) -> None:
        self.name, self.base = name, httpx.URL(base)
        self._http = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=100))

    async def close(self) -> None:
        """Let go of its connections."""
        await self._http.aclose()

    async def forward(self, request: Request, path: str, token: str | None = None) -> Response:
        """What it answers. path: decoded, as the route that allowed it saw it. token: what it asks for itself. Raises ProblemError: 413,
        429, and 502 where it does not answer."""
        body = await bounded_body(request)
        limits_of(request).take_body(holder_of(request), len(body))
        query = request.scope["query_string"]
        asked = httpx.Request(
            request.method,
            self.base.copy_with(raw_path=quote(f"/{path}", safe=_IN_A_PATH).encode() + (b"?" + query if query else b"")),
            headers=_forwarded(request, token),
            content=body or None,
            extensions={"timeout": _SECONDS.as_dict()},
        )
        try:
            answer = await self._http.send(asked, stream=True)
        except httpx.HTTPError as error:
            raise not_answered(self.name, type(error).__name__) from None
        headers = {name: value for name, value in answer.headers.items() if not _dropped(name)}
        if not path:  # its one page; whatever else it serves may run and load nothing
            headers["content-security-policy"] = _PAGE_POLICY
        return StreamingResponse(_parts(answer), answer.status_code, headers)


def not_answered(name: str, why: str) -> ProblemError:
    """502: a server behind this one."""
    return ProblemError(502, "not-answered", "Not available", f"{name} does not answer ({why})")


def _forwarded(request: Request, token: str | None) -> list[tuple[str, str]]:
    headers = [
        (name, value)
        for name, value in request.headers.items()
        if name not in _KEPT_HERE | _OF_A_CONNECTION and not name.startswith("x-forwarded-")
    ]
    return [*headers, *([("authorization", f"Bearer {token}")] if token else [])]


def _dropped(name: str) -> bool:
    return name in _OURS | _OF_A_CONNECTION or name.startswith("access-control-")


async def _parts(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes, compressed as it was sent."""
    try:
        async for part in answer.aiter_raw():
            yield part
    finally:
        await answer.aclose()
