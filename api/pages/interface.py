"""The REST interface in words: every route of the service's own OpenAPI document, as a page that loads nothing from elsewhere."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from api.pages.web import page, router

METHODS = ("get", "post", "put", "patch", "delete")
routes: APIRouter = router()


@dataclass(frozen=True)
class Field:
    """A parameter, or a field of a body."""

    name: str
    type: str
    about: str
    needed: bool


@dataclass(frozen=True)
class Route:
    """A method at a path."""

    method: str
    path: str
    summary: str
    about: str
    parameters: list[Field]
    body: str
    answers: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Model:
    """A named schema."""

    name: str
    about: str
    fields: list[Field]


@routes.get("/docs")
def interface(request: Request) -> Response:
    """All routes by what they are about, and the models."""
    schema: dict[str, Any] = request.app.openapi()
    by_tag: dict[str, list[Route]] = {}
    for path, methods in schema["paths"].items():
        for method in METHODS:
            if told := methods.get(method):
                by_tag.setdefault((told.get("tags") or ["other"])[0], []).append(_route(method, path, told))
    models = [_model(name, each) for name, each in sorted(schema["components"]["schemas"].items())]
    return page(request, "interface.html", tags=by_tag, models=[each for each in models if each.fields], version=schema["info"]["version"])


def _route(method: str, path: str, told: Mapping[str, Any]) -> Route:
    parameters = [
        Field(each["name"], f"{each['in']}, {type_of(each.get('schema', {}))}", each.get("description", ""), each.get("required", False))
        for each in told.get("parameters", ())
    ]
    content = told.get("requestBody", {}).get("content", {})
    bodies = {type_of(each.get("schema", {})) for each in content.values()}
    answers = [(status, each.get("description", ""), _answer(each)) for status, each in told.get("responses", {}).items()]
    body = f"{', '.join(sorted(bodies))} as {' or '.join(content)}" if content else ""
    return Route(method.upper(), path, told.get("summary", ""), told.get("description", ""), parameters, body, answers)


def _answer(response: Mapping[str, Any]) -> str:
    return ", ".join(dict.fromkeys(filter(None, (type_of(each.get("schema", {})) for each in response.get("content", {}).values()))))


def _model(name: str, schema: Mapping[str, Any]) -> Model:
    needed = schema.get("required", ())
    fields = [
        Field(field, type_of(each), each.get("description", ""), field in needed) for field, each in schema.get("properties", {}).items()
    ]
    return Model(name, schema.get("description", ""), fields)


def type_of(schema: Mapping[str, Any]) -> str:
    """A schema in words: "integer or null", "list of Arm"."""
    return " or ".join(dict.fromkeys(_types(schema)))


def _types(schema: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        yield schema["$ref"].rsplit("/", 1)[-1]
    for way in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _types(way)
    if "enum" in schema or "const" in schema:
        values = [str(value) for value in schema.get("enum", [schema.get("const")])]
        yield " | ".join(values[:12]) + (" | ..." if len(values) > 12 else "")
    elif schema.get("type") == "array":
        yield f"list of {type_of(schema.get('items', {})) or 'values'}"
    elif isinstance(schema.get("additionalProperties"), dict):
        yield f"mapping to {type_of(schema['additionalProperties']) or 'values'}"
    elif "type" in schema:
        yield str(schema["type"])
