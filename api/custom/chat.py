"""Custom tools in the fields of the chat API."""

from collections.abc import Sequence
from typing import Any

import attrs

from api.convert.typed import typed
from api.custom.functions import arguments_of


@attrs.frozen(kw_only=True)
class _Called:
    name: str
    input: str


def custom_names(tools: Sequence[dict[str, Any]] | None) -> frozenset[str]:
    """The names of those among ``tools``, which ``api.tools.read_offer`` has taken."""
    return frozenset(tool["custom"]["name"] for tool in tools or () if tool["type"] == "custom")


def with_functions(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Checked messages with calls of custom tools as calls of functions. Raises ApiError 400 naming the call."""
    return [
        {**message, "tool_calls": [_call(call, f"messages[{i}].tool_calls[{j}]") for j, call in enumerate(calls)]}
        if (calls := message.get("tool_calls"))
        else message
        for i, message in enumerate(messages)
    ]


def _call(given: dict[str, Any], where: str) -> dict[str, Any]:
    if given.get("type") != "custom":
        return given
    called = typed(given.get("custom"), _Called, f"{where}.custom")
    function = {"name": called.name, "arguments": arguments_of(called.input)}
    rest = {name: value for name, value in given.items() if name != "custom"}
    return {**rest, "type": "function", "function": function}
