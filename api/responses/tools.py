"""Tools and the choice among them, as the Responses API writes them."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import attrs

from api.convert.selection import choose
from api.convert.typed import typed
from api.errors import bad_request
from api.tools import Offer, distinct, function_tool
from llamabox.chat.ask import ToolChoice
from llamabox.chat.formats.base import Tool

_CHOICES: Final = {choice.value: choice for choice in ToolChoice}


@attrs.frozen(kw_only=True)
class _Named:
    name: str


@attrs.frozen(kw_only=True)
class _Allowed:
    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]]


def read_offer(given: list[dict[str, Any]] | None, choice: str | dict[str, Any] | None) -> Offer:
    """The tools that may be called and how. Raises ApiError 400.

    ``allowed_tools`` leaves only those that it names: the model does not see the others. A tool is strict only if it
    says so, for a schema that was not written to be enforced may hold what cannot be.
    """
    tools = distinct([_tool(tool, f"tools[{index}]") for index, tool in enumerate(given or ())], "tools[{}].name")
    match choice:
        case None:
            return choose(tools, ToolChoice.AUTO)
        case str() if choice in _CHOICES:
            return choose(tools, _CHOICES[choice])
        case {"type": "function"}:
            return choose(tools, ToolChoice.REQUIRED, typed(choice, _Named, "tool_choice").name)
        case {"type": "allowed_tools"}:
            allowed = typed(choice, _Allowed, "tool_choice")
            return choose(_only(tools, allowed.tools), _CHOICES[allowed.mode])
        case _:
            message = "tool_choice: none, auto, required, or an object of type function or allowed_tools"
            raise bad_request(message, "tool_choice")


def tools_json(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The tools as the reply repeats them."""
    return [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description or None,
            "parameters": tool.parameters,
            "strict": tool.strict,
        }
        for tool in tools
    ]


def _tool(given: dict[str, Any], where: str) -> Tool:
    if given.get("type") != "function":
        message = f"{where}.type: only tools of type function can be used, this server runs none of its own"
        raise bad_request(message, f"{where}.type")
    return function_tool(given, where)


def _only(tools: Sequence[Tool], allowed: list[dict[str, Any]]) -> Sequence[Tool]:
    names = [typed(given, _Named, f"tool_choice.tools[{index}]").name for index, given in enumerate(allowed)]
    known = {tool.name for tool in tools}
    for index, name in enumerate(names):
        if name not in known:
            where = f"tool_choice.tools[{index}].name"
            raise bad_request(f"{where}: there is no tool {name!r}", where)
    return [tool for tool in tools if tool.name in names]
