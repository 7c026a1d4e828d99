"""What a JSON schema says about the values in an object, for formats whose values are no JSON."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

_DEFINITIONS: Final = ("$defs", "definitions")
_MOST_VARIANTS: Final = 200


@attrs.frozen
class Member:
    """One named member of an object."""

    name: str
    schema: Any
    required: bool


def members(schema: Mapping[str, Any]) -> list[Member] | None:
    """The members of an object in the schema's order; None if it names none and allows any."""
    named = schema.get("properties")
    if not isinstance(named, Mapping):
        named = {}
    if not named and schema.get("additionalProperties") is not False:
        return None
    required = schema.get("required")
    required = required if isinstance(required, list) else []
    return [Member(name, value, name in required) for name, value in named.items()]


def resolve(schema: Any, root: Mapping[str, Any]) -> Any:
    """The schema that a local ``$ref`` points to; the schema itself if there is none, or none such.

    What stands beside the reference stays.
    """
    seen: set[str] = set()
    while isinstance(schema, Mapping) and isinstance(ref := schema.get("$ref"), str) and ref not in seen:
        seen.add(ref)
        target: Any = root if ref.startswith("#/") else None
        for part in ref[2:].split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            target = target.get(key) if isinstance(target, Mapping) else None
        if not isinstance(target, Mapping):
            return schema
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def standalone(schema: Any, root: Mapping[str, Any]) -> Any:
    """A part of a schema as one of its own: what it refers to comes along."""
    if not isinstance(schema, Mapping):
        return schema
    return {**{key: root[key] for key in _DEFINITIONS if key in root}, **schema}


def variants(schema: Any, root: Mapping[str, Any], *, follow: bool) -> list[Any]:
    """The schemas of which a value satisfies one, each of one type where it says so.

    References are followed, each once, or left as they are. True, which is anything, where there would be too many.
    """
    found: list[Any] = []
    seen: set[str] = set()
    todo = [schema]
    while todo:
        if len(found) > _MOST_VARIANTS:
            return [True]
        schema = todo.pop()
        if not isinstance(schema, Mapping):
            found.append(schema)
        elif isinstance(ref := schema.get("$ref"), str):
            if not follow:
                found.append(schema)
            elif ref not in seen:
                seen.add(ref)
                todo.append(resolve(schema, root))
        elif (parts := _parts(schema, "allOf")) is not None:
            todo.append(_all_of(schema, parts, root))
        elif (choices := _parts(schema, "anyOf")) is not None:
            todo.extend(_both(_without(schema, "anyOf"), choice) for choice in reversed(choices))
        elif (choices := _parts(schema, "oneOf")) is not None:
            todo.extend(_both(_without(schema, "oneOf"), choice) for choice in reversed(choices))
        elif isinstance(types := schema.get("type"), list):
            found.extend({**schema, "type": name} for name in types)
        else:
            found.append(schema)
    return found


def _parts(schema: Mapping[str, Any], key: str) -> list[Any] | None:
    value = schema.get(key)
    return value if isinstance(value, list) and value else None


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def _all_of(schema: Mapping[str, Any], parts: list[Any], root: Mapping[str, Any]) -> Any:
    """One schema for several. What is combined inside the parts again is left out."""
    merged: Any = _without(schema, "allOf")
    for part in parts:
        found = resolve(part, root)
        merged = _both(merged, _without(found, "allOf") if isinstance(found, Mapping) else found)
    return merged


def _both(first: Any, second: Any) -> Any:
    """A schema that demands what both demand, as far as their keywords differ."""
    if not isinstance(first, Mapping) or not isinstance(second, Mapping):
        return second
    merged = {**first, **second}
    if "properties" in first and "properties" in second:
        merged["properties"] = {**first["properties"], **second["properties"]}
    if "required" in first and "required" in second:
        merged["required"] = [*first["required"], *second["required"]]
    return merged


def texts(schema: Any) -> list[str] | None:
    """The texts that a schema of one type allows, if it names them."""
    if not isinstance(schema, Mapping):
        return None
    named = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(named, list) or not named or not all(isinstance(value, str) for value in named):
        return None
    return named


def is_text(schema: Any) -> bool:
    """Whether a schema of one type allows text only."""
    return isinstance(schema, Mapping) and (schema.get("type") == "string" or texts(schema) is not None)
