"""What is known of one template: how to prepare messages for it, and how the model's turn then looks."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llamabox.chat.analysis.choose import format_of
from llamabox.chat.analysis.description import Description
from llamabox.chat.analysis.plain import from_plain
from llamabox.chat.capabilities import Capabilities
from llamabox.chat.formats.base import ChatFormat, Tool
from llamabox.chat.formats.generic import GenericCalls, history, instructions
from llamabox.chat.formats.standard import StandardFormat
from llamabox.chat.messages import suit
from llamabox.chat.normalise import Message


@attrs.frozen(kw_only=True)
class Dialect:
    """A template that works. Made from what ``llamabox.chat.worker.analyze`` gives."""

    source: str
    capabilities: Capabilities
    description: Description
    format: ChatFormat

    @classmethod
    def of(cls, source: str, analysis: Mapping[str, Any]) -> "Dialect":
        """``analysis``: the plain data of the worker."""
        description = from_plain(analysis["description"])
        return cls(
            source=source,
            capabilities=Capabilities(**analysis["capabilities"]),
            description=description,
            format=format_of(source, description),
        )

    @property
    def takes_tools(self) -> bool:
        """Whether the template shows tools to the model and it is known how the model calls them."""
        known = not isinstance(self.format, StandardFormat) or self.format.tools is not None
        return known and self.description.tools_shown

    def format_for(self, tools: Sequence[Tool]) -> ChatFormat:
        """The format of a turn with these tools."""
        if tools and not self.takes_tools:
            return GenericCalls(reasoning=self.format.reasoning)
        return self.format

    def messages(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
        """Validated messages as the template takes them; the tools among them where it has no place for them."""
        if not tools or self.takes_tools:
            return suit(messages, self.capabilities)
        return suit(_instructed([history(message) for message in messages], instructions(tools)), self.capabilities)


def _instructed(messages: Sequence[Message], text: str) -> list[Message]:
    first = messages[0]
    if first["role"] in ("system", "developer"):
        return [{**first, "content": f"{first['content']}\n\n{text}" if first["content"] else text}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]
