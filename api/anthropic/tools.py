"""Tools and the choice among them, as the Messages API writes them."""

from typing import Any, Final, Literal

import attrs

from api.convert.selection import choose
from api.convert.typed import typed
from api.errors import bad_request
from api.tools import Offer, distinct, function_tool
from llamabox.chat.ask import ToolChoice
from llamabox.chat.formats.base import Tool

_CHOICES: Final = {"auto": ToolChoice.AUTO, "any": ToolChoice.REQUIRED, "none": ToolChoice.NONE}


@attrs.frozen(kw_only=True)
class _Choice:
    type: Literal["auto", "any", "tool", "none"] = "auto"
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


def read_offer(given: list[dict[str, Any]] | None, choice: dict[str, Any] | None) -> tuple[Offer, bool]:
    """The tools that may be called and how, and whether several at once. Raises ApiError 400."""
    tools = distinct(
        [_tool(tool, f"tools[{index}]") for index, tool in enumerate(given or ())], "tools[{}].name".format
    )
    asked = typed(choice or {}, _Choice, "tool_choice")
    parallel = not asked.disable_parallel_tool_use
    if asked.type != "tool":
        return choose(tools, _CHOICES[asked.type]), parallel
    if asked.name is None:
        raise bad_request("tool_choice.name: type tool needs the name of a tool", "tool_choice.name")
    return choose(tools, ToolChoice.REQUIRED, asked.name), parallel


def _tool(given: dict[str, Any], where: str) -> Tool:
    if given.get("type") not in (None, "custom"):
        message = f"{where}.type: only tools of the client's own can be used, this server runs none"
        raise bad_request(message, f"{where}.type")
    if given.get("input_schema") is None:
        raise bad_request(f"{where}.input_schema: it is missing", f"{where}.input_schema")
    return function_tool(given, where, parameters="input_schema")
