"""Tools and the choice among them, as the Responses API writes them."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import attrs

from api.convert.selection import choose
from api.convert.typed import typed
from api.custom.functions import as_function
from api.errors import bad_request
from api.responses.namespaces import Given, joined
from api.tools import Offer, distinct, function_tool
from llamabox.chat.ask import ToolChoice
from llamabox.chat.formats.base import Tool

_log = logging.getLogger(__name__)

_CHOICES: Final = {choice.value: choice for choice in ToolChoice}


@attrs.frozen(kw_only=True)
class _Named:
    name: str


@attrs.frozen(kw_only=True)
class _Namespace:
    name: str
    tools: list[dict[str, Any]]


@attrs.frozen(kw_only=True)
class _Allowed:
    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]]


def read_offer(given: list[dict[str, Any]] | None, choice: str | dict[str, Any] | None) -> Offer:
    """The tools that may be called and how. Raises ApiError 400.

    ``allowed_tools`` leaves only those that it names: the model does not see the others. A tool is strict only if it
    says so, for a schema that was not written to be enforced may hold what cannot be. What OpenAI itself runs the model
    does not see: Codex offers OpenAI's web search with every request. A request that offers nothing else is refused.
    """
    tools = distinct(_tools(given or ()), "tools[{}].name".format)
    match choice:
        case None:
            return choose(tools, ToolChoice.AUTO)
        case str() if choice in _CHOICES:
            return choose(tools, _CHOICES[choice])
        case {"type": "function" | "custom"}:
            return choose(tools, ToolChoice.REQUIRED, typed(choice, _Named, "tool_choice").name)
        case {"type": "allowed_tools"}:
            allowed = typed(choice, _Allowed, "tool_choice")
            return choose(_only(tools, allowed.tools), _CHOICES[allowed.mode])
        case _:
            message = "tool_choice: none, auto, required, or an object of type function, custom or allowed_tools"
            raise bad_request(message, "tool_choice")


def tools_json(tools: Sequence[Tool], names: Mapping[str, Given]) -> list[dict[str, Any]]:
    """The tools as the reply repeats them; ``names``: what the client calls them, by what the model calls them."""
    found: list[dict[str, Any]] = []
    spaces: dict[str, list[dict[str, Any]]] = {}
    for tool in tools:
        given = names[tool.name]
        shown = _custom_json(given) if given.is_custom else _function_json(given, tool)
        space = given.namespace
        if space is None:
            found.append(shown)
            continue
        if space not in spaces:
            spaces[space] = []
            found.append({"type": "namespace", "name": space, "description": None, "tools": spaces[space]})
        spaces[space].append(shown)
    return found


def _function_json(given: Given, tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": given.name,
        "description": tool.description or None,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }


def _custom_json(given: Given) -> dict[str, Any]:
    return {
        "type": "custom",
        "name": given.name,
        "description": given.tool.get("description"),
        "format": given.tool.get("format") or {"type": "text"},
    }


def _tools(given: Sequence[dict[str, Any]]) -> list[Tool]:
    found: list[Tool] = []
    others: list[str] = []
    for index, tool in enumerate(given):
        where = f"tools[{index}]"
        match tool.get("type"):
            case "function" | "custom":
                found.append(_tool(tool, where))
            case "namespace":
                found += _namespace(tool, where)
            case str() as kind:
                others.append(kind)
            case _:
                raise bad_request(f"{where}.type: expected text", f"{where}.type")
    if others and not found:
        message = "tools[0].type: only tools of type function or custom can be used, this server runs none of its own"
        raise bad_request(message, "tools[0].type")
    if others:
        _log.info("tools that the model does not see, for this server does not run them: %.200s", ", ".join(others))
    return found


def _namespace(given: dict[str, Any], where: str) -> list[Tool]:
    space = typed(given, _Namespace, where)
    tools = []
    for index, tool in enumerate(space.tools):
        place = f"{where}.tools[{index}]"
        if tool.get("type") not in ("function", "custom"):
            raise bad_request(f"{place}.type: expected function or custom", f"{place}.type")
        found = _tool(tool, place)
        tools.append(attrs.evolve(found, name=joined(space.name, found.name)))
    return tools


def _tool(given: dict[str, Any], where: str) -> Tool:
    return function_tool(as_function(given, where) if given["type"] == "custom" else given, where)


def _only(tools: Sequence[Tool], allowed: list[dict[str, Any]]) -> Sequence[Tool]:
    names = [typed(given, _Named, f"tool_choice.tools[{index}]").name for index, given in enumerate(allowed)]
    known = {tool.name for tool in tools}
    for index, name in enumerate(names):
        if name not in known:
            where = f"tool_choice.tools[{index}].name"
            raise bad_request(f"{where}: there is no tool {name!r}", where)
    return [tool for tool in tools if tool.name in names]
