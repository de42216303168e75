"""Data and studies from the body of a request: JSON or YAML, bounded in size, valid or refused with every field named."""

from collections.abc import Callable
from email.message import Message
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from api.access.callers import holder_of, limits_of
from api.access.gate import DATA_TYPES
from api.problems import invalid_request, invalid_study
from studies.documents import read_document
from studies.problems import SpecError
from studies.submission import Submission, read_submission

T = TypeVar("T")
MAX_BODY_BYTES = 1_000_000
_FORMS: dict[str, Literal["json", "yaml"]] = {kind: "json" if kind.endswith("json") else "yaml" for kind in DATA_TYPES}


async def read_study(request: Request) -> Submission:
    """The valid study in the body. Raises ProblemError: 413, 415, 400 (unreadable) or 422 (refused)."""
    return await read_body(request, read_submission)


async def read_data(request: Request) -> Any:
    """The plain data in the body. Raises ProblemError as `read_study` does."""
    return await read_body(request, lambda data: data)


async def read_body(request: Request, understand: Callable[[Any], T]) -> T:
    """What `understand` makes of the body's data; it may raise SpecError. Raises ProblemError as `read_study` does."""
    form = _form(request)
    body = await bounded_body(request)
    limits_of(request).take_body(holder_of(request), len(body))
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid_request(400, "", f"the body is not UTF-8 (byte {error.start})") from None
    try:
        # In a thread: a large body keeps nobody else waiting.
        return await run_in_threadpool(lambda: understand(read_document(text, form)))
    except SpecError as error:
        raise invalid_study(error.problems) from None


SubmittedStudy = Annotated[Submission, Depends(read_study)]


def _form(request: Request) -> Literal["json", "yaml"]:
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    form = _FORMS.get(message.get_content_type())
    if form is None:
        raise invalid_request(415, "Content-Type", "application/json or application/yaml")
    return form


async def bounded_body(request: Request) -> bytes:
    """The body, read until it is too large. Raises ProblemError 413."""
    too_large = invalid_request(413, "", f"a body is at most {MAX_BODY_BYTES:,} bytes")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and len(announced) < 20 and int(announced) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise too_large
    return bytes(body)
