"""What is refused before anybody asks who it is: foreign names of this service (DNS rebinding), pages of other sites (CSRF), forms.

A browser sends what other sites tell it to, from inside the network and with the user's cookies. It always says for which name it
asked (Host), from where a change comes (Origin), and of what type a body is; so these three decide, for every path alike.
"""

from collections.abc import Sequence
from email.message import Message
from importlib.metadata import version
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Part

from api.problems import ProblemError, answer, invalid_request, printable

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
DATA_TYPES = ("application/json", "application/yaml", "application/x-yaml", "text/yaml")
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
VERSION_HEADER = "Retort-Version"  # by which a client of another version knows
_CHANGING = ("POST", "PUT", "PATCH", "DELETE")
# What every answer says unless it says otherwise: nothing in it may load or run anything, and no page may frame it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    VERSION_HEADER: version("retort"),
}


class Gate:
    """The outermost layer of the service. names: what it may be called by beside loopback's; "*": anything, "*.example.org": all below."""

    def __init__(self, app: ASGIApp, names: Sequence[str] = ()) -> None:
        self.app = app
        self.names = (*LOOPBACK_NAMES, *(name.lower() for name in names))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(part: Part) -> None:
            if part["type"] == "http.response.start":
                headers = MutableHeaders(scope=part)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(part)

        refusal = self.refusal(scope["method"], scope["path"], Headers(scope=scope))
        await (answer(refusal) if refusal else self.app)(scope, receive, guarded)

    def refusal(self, method: str, path: str, headers: Headers) -> ProblemError | None:
        """Why a request goes no further, or None."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._known(hosts[0]):
            return _forbidden(
                "unknown-host",
                "Host",
                f"this service is not known as {printable(', '.join(hosts))!r}; names are added by RETORT_ALLOWED_HOSTS",
            )
        if method not in _CHANGING:
            return None
        origins = headers.getlist("origin")
        if any(_address(origin) != hosts[0].lower() for origin in origins):
            return _forbidden("foreign-origin", "Origin", f"a page of {printable(', '.join(origins))} may change nothing here")
        kind = _media_type(headers)
        if kind is None and headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
            return None
        # Pages have forms, and then say where they come from; what is for programs takes data alone, which no form can send.
        if kind in DATA_TYPES or (kind in FORM_TYPES and origins and not path.startswith("/v1/")):
            return None
        return invalid_request(415, "Content-Type", "application/json or application/yaml")

    def _known(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        return any(known in ("*", name) or (known.startswith("*.") and name.endswith(known[1:])) for known in self.names)


def _address(origin: str) -> str | None:
    """ "127.0.0.1:8080" of "http://127.0.0.1:8080"; None for "null" and whatever is no origin of a web page."""
    scheme, slashes, address = origin.lower().partition("://")
    return address if slashes and scheme in ("http", "https") else None


def _media_type(headers: Headers) -> str | None:
    if "content-type" not in headers:
        return None
    message = Message()
    message["content-type"] = headers["content-type"]
    return message.get_content_type() if headers["content-type"].strip() else None


def _forbidden(kind: str, field: str, detail: str) -> ProblemError:
    refusal = invalid_request(403, field, detail)
    refusal.document.type = f"urn:retort:problem:{kind}"
    return refusal
