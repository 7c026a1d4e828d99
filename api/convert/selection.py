"""Which tools may be called: what the APIs say in different words."""

from collections.abc import Sequence

from api.errors import bad_request
from api.tools import Offer
from llamabox.chat.ask import ToolChoice
from llamabox.chat.formats.base import Tool


def choose(tools: Sequence[Tool], choice: ToolChoice, named: str | None = None) -> Offer:
    """The offer; ``named``: the one tool that must be called. Raises ApiError 400 where no tool fits the choice."""
    if named is not None and all(tool.name != named for tool in tools):
        raise bad_request(f"tool_choice: there is no tool {named!r}", "tool_choice")
    if choice is ToolChoice.REQUIRED and not tools:
        raise bad_request("tool_choice: there are no tools to choose from", "tool_choice")
    return Offer(tools=tuple(tools), choice=choice, named=named)
