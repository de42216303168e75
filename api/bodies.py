"""Data and studies from the body of a request: JSON or YAML, bounded in size, valid or refused with every field named."""

import hashlib
import json
from email.message import Message
from typing import Annotated, Any, Literal

from fastapi import Depends, Request

from api.problems import invalid_request, invalid_study
from studies.documents import read_document
from studies.parse import parse_study
from studies.problems import SpecError
from studies.spec import StudySpec

MAX_BODY_BYTES = 1_000_000
_FORMS: dict[str, Literal["json", "yaml"]] = {
    "application/json": "json",
    "application/yaml": "yaml",
    "application/x-yaml": "yaml",
    "text/yaml": "yaml",
}


async def read_study(request: Request) -> StudySpec:
    """The valid study in the body. Raises ProblemError: 413, 415, 400 (unreadable) or 422 (refused)."""
    data = await read_data(request)
    try:
        return parse_study(data)
    except SpecError as error:
        raise invalid_study(error.problems) from None


async def read_data(request: Request) -> Any:
    """The plain data in the body. Raises ProblemError: 413, 415, 400 (no UTF-8) or 422 (unreadable)."""
    form = _form(request)
    body = await _body(request)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid_request(400, "", f"the body is not UTF-8 (byte {error.start})") from None
    try:
        return read_document(text, form)
    except SpecError as error:
        raise invalid_study(error.problems) from None


SubmittedStudy = Annotated[StudySpec, Depends(read_study)]


def digest(spec: StudySpec) -> str:
    """Equal for two bodies exactly when they ask for the same study, whatever their spelling."""
    text = json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _form(request: Request) -> Literal["json", "yaml"]:
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    form = _FORMS.get(message.get_content_type())
    if form is None:
        raise invalid_request(415, "Content-Type", "application/json or application/yaml")
    return form


async def _body(request: Request) -> bytes:
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
