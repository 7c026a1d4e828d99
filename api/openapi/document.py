"""The OpenAPI 3.1 document of a route table."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final, Protocol

import attrs
import msgspec

from api.images.fields import ImageStreamOptions
from api.openapi.descriptions import DESCRIPTIONS
from api.openapi.forms import FORM, form_schema
from api.openapi.operation import EVENTS, JSON, Operation, Tag
from api.openapi.operations import OPERATIONS
from api.rate import REQUEST_HEADER, RESPONSE_HEADER

type Json = dict[str, Any]
type SchemaOf = Callable[[Sequence[Any]], Json]

_VARIABLE: Final = re.compile(r"<(?:[^:>]*:)?([^>]+)>")
_NUMBERS: Final = frozenset({"id_slot"})  # variables of paths; the others are text
_SCHEMAS: Final = "#/components/schemas/{name}"
_ABOUT: Final = """\
Language models from local files, over the APIs of OpenAI, Anthropic and llama-server. Fields that a request's schema \
does not name are accepted and ignored; null means absent. Routes whose flag is off, or that the loaded model cannot \
serve, answer 501 and say why. While the model loads every one of these routes answers 503."""


class Described(Protocol):
    """What the description needs of a row of the route table."""

    @property
    def method(self) -> str: ...

    @property
    def paths(self) -> Sequence[str]: ...


def operation_of(route: Described) -> Operation:
    """Raises KeyError for a route that nothing is said about."""
    names = [f"{route.method} {path}" for path in route.paths]
    for name in names:
        if found := OPERATIONS.get(name):
            return found
    raise KeyError(names[0])


def document(routes: Sequence[Described], *, keys: bool) -> Json:
    """The document; ``keys``: the server wants one with each request."""
    operations = [operation_of(route) for route in routes]
    schema_of, schemas = _schemas(operations)
    paths: dict[str, Json] = {}
    for route, operation in zip(routes, operations, strict=True):
        for path in route.paths:
            name = _VARIABLE.sub(r"{\1}", path)
            body = _operation(route, name, operation, schema_of, keys=keys)
            paths.setdefault(name, {})[route.method.lower()] = body
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "llama-box",
            "version": version("llama-box"),
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The server that gave this document"}],
        "tags": [{"name": tag.value} for tag in Tag],
        "paths": paths,
        "components": {"schemas": schemas, "headers": _HEADERS, "securitySchemes": _SECURITY},
    }


_HEADERS: Final[Json] = {
    "X-Request-ID": {
        "description": "The request's id, as in the log; a request may bring its own",
        "schema": {"type": "string"},
    },
    RESPONSE_HEADER: {
        "description": "Tokens per second that the request got; with a stream a trailer, over HTTP/2 with TE: trailers",
        "schema": {"type": "string"},
    },
}
_SECURITY: Final[Json] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of --api-key or --api-key-file"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "The same, for the Messages API"},
}
_RATE: Final[Json] = {
    "name": REQUEST_HEADER,
    "in": "header",
    "description": "Pace the tokens evenly at this rate, up to --tokens-per-second; more than that is 410",
    "schema": {"type": "number"},
}


def _schemas(operations: Sequence[Operation]) -> tuple[SchemaOf, Json]:
    """Where each class of the operations is described, and all those descriptions by name."""
    shapes = [
        shape
        for operation in operations
        for shape in (*operation.request, *operation.reply, *operation.event, *operation.error)
    ]
    found, components = msgspec.json.schema_components(shapes, ref_template=_SCHEMAS)
    for operation in operations:
        for shape in filter(attrs.has, operation.request):
            _describe(shape.__name__, components[shape.__name__])
    for operation in filter(lambda operation: operation.files, operations):
        options = components[ImageStreamOptions.__name__]
        described = components[operation.request[0].__name__]
        components[_form_name(operation)] = form_schema(described, options, operation.files)
    schemas = dict(zip(shapes, found, strict=True))

    def schema_of(alternatives: Sequence[Any]) -> Json:
        given = [schemas[shape] for shape in alternatives]
        return given[0] if len(given) == 1 else {"anyOf": given}

    return schema_of, components


def _form_name(operation: Operation) -> str:
    return f"{operation.request[0].__name__}Form"


def _describe(shape: str, schema: Json) -> None:
    for name, field in schema["properties"].items():
        if text := DESCRIPTIONS.get(f"{shape}.{name}") or DESCRIPTIONS.get(name):
            field["description"] = text


def _operation(route: Described, path: str, operation: Operation, schema_of: SchemaOf, *, keys: bool) -> Json:
    body: Json = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{path}").rstrip("_"),
        "summary": operation.summary,
        "tags": [operation.tag.value],
        "parameters": list(_parameters(path, operation)),
        "responses": _responses(operation, schema_of),
        "security": _security(operation, keys=keys),
    }
    first = _VARIABLE.sub(r"{\1}", route.paths[0])
    if path != first:
        body["description"] = f"The same as {route.method} {first}."
    if operation.request:
        content = {JSON: {"schema": schema_of(operation.request)}}
        if operation.files:
            content[FORM] = {"schema": {"$ref": _SCHEMAS.format(name=_form_name(operation))}}
        body["requestBody"] = {"required": not operation.optional_body, "content": content}
    return body


def _parameters(path: str, operation: Operation) -> Iterator[Json]:
    for name in re.findall(r"{(\w+)}", path):
        schema: Json = {"type": "integer", "minimum": 0} if name in _NUMBERS else {"type": "string"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    for query in operation.query:
        yield {
            "name": query.name,
            "in": "query",
            "description": query.text,
            "required": query.required,
            "schema": query.schema,
        }
    if operation.paced:
        yield _RATE


def _responses(operation: Operation, schema_of: SchemaOf) -> Mapping[str, Json]:
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-ID", RESPONSE_HEADER)}
    if not operation.paced:
        del headers[RESPONSE_HEADER]
    content: Json = {}
    if operation.reply:
        content[operation.media] = {"schema": schema_of(operation.reply)}
    if operation.event:
        content[EVENTS] = {"schema": schema_of(operation.event)}
    text = "The answer"
    if operation.event:
        text = "The answer; with stream: true server-sent events, the data of each as the schema says"
    failed = {"description": "A failure", "content": {JSON: {"schema": schema_of(operation.error)}}}
    return {
        "200": {"description": text, "headers": headers, **({"content": content} if content else {})},
        "default": failed,
    }


def _security(operation: Operation, *, keys: bool) -> list[Json]:
    """Any one of them suffices."""
    if operation.open or not keys:
        return []
    return [{"bearer": []}, {"apiKey": []}] if operation.tag is Tag.ANTHROPIC else [{"bearer": []}]
