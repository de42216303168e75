"""Errors as RFC 9457 problem documents: what is wrong, with which field, and what would be right.

Raise `ProblemError` (or let FastAPI's own errors pass); `install` turns all of them into `application/problem+json`.
"""

import logging
from collections.abc import Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from orchestrator.storage.storage import StorageError
from studies.problems import Problem

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger(__name__)


class FieldProblem(BaseModel):
    """One field that is wrong."""

    field: str = Field(description="dotted path in the body (`arms.1.options.temperature`), or a parameter or header; empty: the whole")
    message: str = Field(description="what would be right")


class ProblemDocument(BaseModel):
    """An RFC 9457 problem document."""

    type: str = Field(description="a name of the kind of problem that does not change: urn:retort:problem:...")
    title: str = Field(description="the kind of problem in words")
    status: int
    detail: str = Field(description="this occurrence in a sentence")
    errors: list[FieldProblem] = Field([], description="every field that was found wrong")


class ProblemError(Exception):
    """A request that is answered with a problem document. `kind` names it for programs, `title` for people."""

    def __init__(self, status: int, kind: str, title: str, detail: str, errors: Sequence[Problem] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.headers: dict[str, str] = {}
        self.document = ProblemDocument(
            type=f"urn:retort:problem:{kind}",
            title=title,
            status=status,
            detail=detail,
            errors=[FieldProblem(field=e.field, message=e.message) for e in errors],
        )


def invalid_study(problems: Sequence[Problem]) -> ProblemError:
    """422: a spec that is refused; every field is named."""
    return ProblemError(422, "invalid-study", "The study is not valid", _summary(problems), problems)


def invalid_request(status: int, field: str, message: str) -> ProblemError:
    """A parameter, header or body that cannot be used at all."""
    problems = [Problem(field, message)]
    return ProblemError(status, "invalid-request", "The request is not valid", _summary(problems), problems)


def not_found(what: str, name: str) -> ProblemError:
    """404: there is no such thing."""
    return ProblemError(404, "not-found", "Not found", f"there is no {what} {printable(name)!r}")


def conflict(kind: str, detail: str, field: str = "") -> ProblemError:
    """409: the request contradicts what is stored."""
    return ProblemError(409, kind, "Conflict with what is stored", detail, [Problem(field, detail)] if field else [])


def printable(text: str) -> str:
    """Text from a request as it may be sent back: short and valid Unicode."""
    return text[:80].encode("utf-8", "replace").decode()


def install(app: FastAPI) -> None:
    """Every error of `app` answers as a problem document."""

    @app.exception_handler(ProblemError)
    async def _problem(_: Request, error: ProblemError) -> Response:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> Response:
        problems = [Problem(".".join(printable(str(part)) for part in e["loc"][1:]), str(e["msg"])) for e in error.errors()]
        return answer(ProblemError(422, "invalid-request", "The request is not valid", _summary(problems), problems))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        title = HTTPStatus(error.status_code).phrase
        detail = f"nothing is at {printable(request.url.path)}" if error.status_code == 404 else error.detail
        problem = ProblemError(error.status_code, title.lower().replace(" ", "-"), title, detail)
        problem.headers.update(error.headers or {})
        return answer(problem)

    @app.exception_handler(OperationalError)
    async def _database(request: Request, error: OperationalError) -> Response:
        _log.error("%s %s: the database failed: %s", request.method, request.url.path, error)
        problem = ProblemError(503, "unavailable", "Not available", "the database does not answer; try again")
        problem.headers["Retry-After"] = "1"
        return answer(problem)

    @app.exception_handler(StorageError)
    async def _storage(request: Request, error: StorageError) -> Response:
        _log.error("%s %s: %s", request.method, request.url.path, error)
        problem = ProblemError(503, "unavailable", "Not available", "the store of the trials' files does not answer; try again")
        problem.headers["Retry-After"] = "5"
        return answer(problem)

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> Response:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(ProblemError(500, "internal", "Internal error", "an error of the service; its log says more"))


def answer(error: ProblemError) -> Response:
    """The response for a problem."""
    return Response(error.document.model_dump_json(), error.status, headers=error.headers, media_type=MEDIA_TYPE)


def responses(*statuses: int) -> dict[int | str, dict[str, object]]:
    """OpenAPI entries: these statuses answer with a problem document."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses}


def _summary(problems: Sequence[Problem]) -> str:
    first = f"{problems[0].field}: {problems[0].message}" if problems[0].field else problems[0].message
    return first if len(problems) == 1 else f"{first} (and {len(problems) - 1} more)"
