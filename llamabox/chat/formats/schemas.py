"""What a tool's JSON schema says about its parameters: no more than formats need to read and to constrain them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from llamabox.chat.formats.base import Tool

ANY: Final = frozenset({"string", "number", "integer", "boolean", "null", "array", "object"})

_DEFINITIONS: Final = ("$defs", "definitions")
_FEW: Final[Mapping[str, list[Any]]] = {"null": [None], "boolean": [True, False]}  # types of few values
_DEPTH: Final = 8  # references and unions followed


def object_schema(tool: Tool) -> Mapping[str, Any]:
    """The schema of the arguments as one JSON object."""
    return {"type": "object", **tool.parameters}


def properties(tool: Tool) -> dict[str, Any]:
    """The schemas of the parameters by name, in order, with the definitions that they may refer to."""
    found = tool.parameters.get("properties")
    return {key: within(tool, schema) for key, schema in found.items()} if isinstance(found, Mapping) else {}


def additional(tool: Tool) -> Any:
    """The schema of parameters that are not named; None if the tool does not ask for such ones."""
    schema = tool.parameters.get("additionalProperties")
    return within(tool, schema) if schema is True or isinstance(schema, Mapping) else None


def within(tool: Tool, schema: Any) -> Any:
    """A part of a tool's schema that can stand alone."""
    if not isinstance(schema, Mapping):
        return schema
    definitions = {key: tool.parameters[key] for key in _DEFINITIONS if key in tool.parameters}
    return {**definitions, **schema}


def fixed_values(schema: Any) -> list[Any] | None:
    """The values that are allowed, if the schema lists them, or each of its alternatives does: an enum or null."""
    root, (schema, _) = schema, _resolved(schema, schema)
    if not isinstance(schema, Mapping):
        return None
    if (values := _listed(schema)) is not None:
        return values
    options = schema.get("anyOf") or schema.get("oneOf")
    if not isinstance(options, Sequence) or isinstance(options, str):
        return None
    parts = {id(part): part for part, _ in (_resolved(option, root) for option in options)}  # each once
    lists = [_listed(part, alternative=True) if isinstance(part, Mapping) else None for part in parts.values()]
    found = [values for values in lists if values is not None]
    return [value for values in found for value in values] if len(found) == len(lists) else None


def _listed(schema: Mapping[str, Any], *, alternative: bool = False) -> list[Any] | None:
    """``alternative``: it stands beside others, so that null and the two of a boolean are a list as well."""
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    if isinstance(values, Sequence) and not isinstance(values, str) and values:
        return list(values)
    return _FEW.get(str(schema.get("type"))) if alternative else None


def json_types(schema: Any) -> frozenset[str]:
    """Which JSON types a value may have."""
    return _types(schema, schema, _DEPTH, {})


def type_of(value: Any) -> str:
    """The JSON type of a value that ``json.loads`` has made."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def strict_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError, also for what only Python takes."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _types(schema: Any, root: Any, depth: int, known: dict[tuple[int, int], frozenset[str]]) -> frozenset[str]:
    """``known``: what was found out of schemas, by their identities and the depth: references may meet in one often."""
    schema, found = _resolved(schema, root)
    if not isinstance(schema, Mapping) or not found or not depth:
        return ANY
    key = id(schema), depth
    if key not in known:
        known[key] = _types_of(schema, lambda part: _types(part, root, depth - 1, known))
    return known[key]


def _types_of(schema: Mapping[str, Any], types: Callable[[Any], frozenset[str]]) -> frozenset[str]:
    """``types``: those of a part."""
    if (values := fixed_values(schema)) is not None:
        return frozenset(map(type_of, values))
    named = schema.get("type")
    if isinstance(named, str):
        named = [named]
    if isinstance(named, Sequence):
        found = frozenset(name for name in named if isinstance(name, str))
        return found | {"integer"} if "number" in found else found
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        if isinstance(options, Sequence) and options:
            return frozenset[str]().union(*map(types, options))
    options = schema.get("allOf")
    if isinstance(options, Sequence) and options:
        return ANY.intersection(*map(types, options))
    return ANY


def _resolved(schema: Any, root: Any) -> tuple[Any, bool]:
    """The schema that a local reference means, and whether there is one."""
    for _ in range(_DEPTH):
        if not isinstance(schema, Mapping) or not isinstance(schema.get("$ref"), str):
            return schema, True
        kind, _, name = schema["$ref"].removeprefix("#/").partition("/")
        definitions = root.get(kind) if isinstance(root, Mapping) and kind in _DEFINITIONS else None
        if not isinstance(definitions, Mapping) or name not in definitions:
            return None, False
        schema = definitions[name]
    return None, False
