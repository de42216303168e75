"""Styles and scripts of the pages: plain files of the package, sent compressed, and kept by browsers as long as they are the same."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response

from api.access.callers import open_to_all
from api.problems import not_found

FOLDER = Path(__file__).resolve().parent / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
routes = APIRouter(include_in_schema=False, dependencies=[open_to_all])


@dataclass(frozen=True)
class Asset:
    """A file as it is sent."""

    plain: bytes
    packed: bytes
    type: str
    digest: str


@cache
def _assets() -> dict[str, Asset]:
    """All of them by their path below `static/`; nothing else is ever sent."""
    return {path.relative_to(FOLDER).as_posix(): _read(path) for path in sorted(FOLDER.rglob("*")) if path.suffix in _TYPES}


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    return Asset(content, gzip.compress(content, 9, mtime=0), _TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:12])


def asset(name: str) -> str:
    """The address of a file, which changes with its content."""
    return f"/static/{name}?v={_assets()[name].digest}"


@routes.get("/static/{name:path}")
def static(name: str, request: Request) -> Response:
    """One file."""
    found = _assets().get(name)
    if found is None:
        raise not_found("file", name)
    current = request.query_params.get("v") == found.digest
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if current else "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=found.type)
    return Response(found.plain, headers=headers, media_type=found.type)


@routes.get("/favicon.ico")
def favicon(request: Request) -> Response:
    """The icon where browsers look for one by themselves: beside answers that are no page, which name none."""
    return static("icon.svg", request)
