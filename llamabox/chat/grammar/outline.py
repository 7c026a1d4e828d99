"""The outline of a tool's schema: what can always be enforced, where the whole of it is more than llguidance can do."""

from collections.abc import Mapping
from typing import Any

import attrs

from llamabox.chat.formats.base import Tool
from llamabox.chat.formats.schemas import ANY, fixed_values, json_types, properties


def outlined(tool: Tool) -> Tool:
    """The tool with the names of its parameters and the JSON types of their values, nothing of what those contain."""
    given = tool.parameters
    named = {name: _shallow(schema) for name, schema in properties(tool).items()}
    parameters: dict[str, Any] = {"type": "object", "properties": named}
    required = given.get("required")
    if isinstance(required, list):
        parameters["required"] = [name for name in required if isinstance(name, str) and name in named]
    more = given.get("additionalProperties")
    if isinstance(more, bool | Mapping):
        parameters["additionalProperties"] = more is not False
    return attrs.evolve(tool, parameters=parameters)


def _shallow(schema: Any) -> dict[str, Any]:
    values = fixed_values(schema)
    if values is not None:
        return {"enum": values}
    types = json_types(schema) & ANY
    return {} if types in (ANY, frozenset()) else {"type": sorted(types)}
