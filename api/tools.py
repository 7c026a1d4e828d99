"""Tools that a client offers, and which of them may be called."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from api.convert.nesting import check_nesting
from api.custom.functions import as_function
from api.errors import bad_request
from api.shapes import Templated
from llamabox.chat.ask import ToolChoice
from llamabox.chat.formats.base import Tool

# OpenAI takes 64 characters, Anthropic 128: names of MCP servers come before those of their tools.
_NAME: Final = re.compile(r"[A-Za-z0-9_.\-]{1,128}")
_MODES: Final = {mode.value: mode for mode in ToolChoice}


@attrs.frozen(kw_only=True)
class Offer:
    """``named``: the one tool that must be called."""

    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = ToolChoice.AUTO
    named: str | None = None


def read_offer(fields: Templated) -> Offer:
    """tools and tool_choice, or the older functions and function_call. Raises ApiError 400 naming the field."""
    if fields.functions:
        if fields.tools:
            raise bad_request("functions: tools are given as well", "functions")
        if fields.tool_choice is not None:
            raise bad_request("tool_choice: it goes with tools, function_call with functions", "tool_choice")
        functions = [function_tool(given, f"functions[{i}]") for i, given in enumerate(fields.functions)]
        return _legacy_offer(distinct(functions, "functions[{}].name".format), fields.function_call)
    tools = [_tool(given, f"tools[{i}]") for i, given in enumerate(fields.tools or ())]
    if tools and fields.function_call is not None:
        raise bad_request("function_call: it goes with functions, tool_choice with tools", "function_call")
    if not tools:
        _legacy_offer((), fields.function_call)  # what it names cannot be there
    given = fields.tools or ()
    return _offer(distinct(tools, lambda index: f"tools[{index}].{given[index]['type']}.name"), fields.tool_choice)


def function_tool(given: object, where: str, *, parameters: str = "parameters") -> Tool:
    """The tool that ``given`` describes; ``parameters`` is its field for the arguments' schema.

    Raises ApiError 400 naming what is wrong, ``where`` before it.
    """
    if not isinstance(given, dict):
        raise bad_request(f"{where}: expected an object", where)
    name, description = given.get("name"), given.get("description")
    schema, strict = given.get(parameters), given.get("strict")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise bad_request(f"{where}.name: expected 1 to 128 letters, digits, '_', '-' or '.'", f"{where}.name")
    if not isinstance(description, str | None):
        raise bad_request(f"{where}.description: expected text", f"{where}.description")
    if not isinstance(schema, dict | None):
        raise bad_request(f"{where}.{parameters}: expected a JSON schema of an object", f"{where}.{parameters}")
    if schema and schema.get("type", "object") != "object":
        name = f"{where}.{parameters}.type"
        raise bad_request(f"{name}: expected object, for a call names its arguments", name)
    check_nesting(schema, f"{where}.{parameters}")
    if not isinstance(strict, bool | None):
        raise bad_request(f"{where}.strict: expected true or false", f"{where}.strict")
    return Tool(name=name, parameters=schema or {}, description=description or "", strict=bool(strict))


def distinct(tools: Sequence[Tool], where: Callable[[int], str]) -> tuple[Tool, ...]:
    """The tools. Raises ApiError 400 where two have one name; ``where`` tells a name's place by the tool's index."""
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in seen:
            name = where(index)
            raise bad_request(f"{name}: there are two tools of the name {tool.name}", name)
        seen.add(tool.name)
    return tuple(tools)


def _tool(given: dict[str, Any], where: str) -> Tool:
    match given.get("type"):
        case "function":
            return function_tool(given.get("function"), f"{where}.function")
        case "custom":
            place = f"{where}.custom"
            return function_tool(as_function(given.get("custom"), place, nested=True), place)
        case _:
            raise bad_request(f"{where}.type: only tools of type function or custom can be used", f"{where}.type")


def _legacy_offer(tools: tuple[Tool, ...], choice: str | dict[str, Any] | None) -> Offer:
    where = "function_call"
    if choice in (None, "auto", "none"):
        return Offer(tools=tools, choice=ToolChoice.NONE if choice == "none" else ToolChoice.AUTO)
    _need_tools(tools, where)
    if not isinstance(choice, dict):
        raise bad_request(f"{where}: expected none, auto or the name of a function", where)
    return Offer(tools=tools, choice=ToolChoice.REQUIRED, named=_known(tools, choice.get("name"), f"{where}.name"))


def _offer(tools: tuple[Tool, ...], choice: str | dict[str, Any] | None) -> Offer:
    where = "tool_choice"
    if choice is None:
        return Offer(tools=tools)
    if isinstance(choice, str):
        return Offer(tools=tools, choice=_mode(tools, choice, where))
    _need_tools(tools, where)
    match choice.get("type"):
        case "function" | "custom" as kind:
            tool = choice.get(kind)
            if not isinstance(tool, dict):
                raise bad_request(f"{where}.{kind}: expected an object with a name", f"{where}.{kind}")
            named = _known(tools, tool.get("name"), f"{where}.{kind}.name")
            return Offer(tools=tools, choice=ToolChoice.REQUIRED, named=named)
        case "allowed_tools":
            return _allowed(tools, choice.get("allowed_tools"))
        case _:
            raise bad_request(f"{where}.type: expected function, custom or allowed_tools", f"{where}.type")


def _allowed(tools: tuple[Tool, ...], given: object) -> Offer:
    """Only some of the tools are offered."""
    where = "tool_choice.allowed_tools"
    if not isinstance(given, dict) or not isinstance(given.get("tools"), list):
        raise bad_request(f"{where}: expected an object with mode and tools", where)
    mode = given.get("mode")
    if mode not in ("auto", "required"):
        raise bad_request(f"{where}.mode: expected auto or required", f"{where}.mode")
    names = set()
    for index, entry in enumerate(given["tools"]):
        kind = "custom" if isinstance(entry, dict) and entry.get("type") == "custom" else "function"
        tool = entry.get(kind) if isinstance(entry, dict) else None
        name = tool.get("name") if isinstance(tool, dict) else None
        names.add(_known(tools, name, f"{where}.tools[{index}].{kind}.name"))
    allowed = tuple(tool for tool in tools if tool.name in names)
    return Offer(tools=allowed, choice=_mode(allowed, mode, where))


def _mode(tools: tuple[Tool, ...], given: str, where: str) -> ToolChoice:
    mode = _MODES.get(given)
    if mode is None:
        raise bad_request(f"{where}: expected none, auto, required or an object that names a tool", where)
    if mode is ToolChoice.REQUIRED:
        _need_tools(tools, where)
    return mode


def _need_tools(tools: tuple[Tool, ...], where: str) -> None:
    if not tools:
        raise bad_request(f"{where}: there are no tools to choose from", where)


def _known(tools: tuple[Tool, ...], name: object, where: str) -> str:
    if not isinstance(name, str) or all(tool.name != name for tool in tools):
        raise bad_request(f"{where}: no tool has this name", where)
    return name
