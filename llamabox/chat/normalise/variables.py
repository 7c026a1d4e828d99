"""The variables of a template beside the messages."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from llamabox.chat.analysis.description import tool_variables
from llamabox.chat.capabilities import Capabilities
from llamabox.chat.formats.base import Tool

# By which names templates ask whether reasoning of earlier turns stays, and the value with which it does.
KEEP_REASONING: Final[Mapping[str, Any]] = {
    "preserve_thinking": True,
    "preserved_thinking": True,
    "keep_past_thinking": True,
    "clear_thinking": False,
    "truncate_history_thinking": False,
    "drop_thinking": False,
    "think_render_option": "all",
}


def template_variables(
    capabilities: Capabilities,
    *,
    tools: Iterable[Tool] = (),
    enable_thinking: bool = True,
    reasoning_effort: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a template is told about one request. ``given`` are the request's own variables; they win.

    Tools come under the name by which the template wants them, and not at all where there are none: some templates
    iterate over what they get, others insist on it.
    """
    own = dict(given or {})
    thinking = own.get("enable_thinking", enable_thinking)
    effort = {} if reasoning_effort is None else {"reasoning_effort": reasoning_effort}
    return {
        **KEEP_REASONING,
        "enable_thinking": thinking,
        "thinking": thinking,  # the same to the templates of DeepSeek and Granite
        **effort,
        **tool_variables(
            [openai_tool(tool) for tool in tools], capabilities.tool_argument_name, as_text=capabilities.tools_as_text
        ),
        **own,
    }


def openai_tool(tool: Tool) -> dict[str, Any]:
    """A tool in OpenAI's form, with all the keys that templates take for granted."""
    function: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": {"type": "object", "properties": {}, **tool.parameters},
    }
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}
