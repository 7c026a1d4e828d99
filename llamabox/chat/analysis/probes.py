"""The conversations that are rendered to find out about a template. Unique words show where things come out."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from llamabox.chat.capabilities import Capabilities
from llamabox.chat.errors import TemplateError, TemplateLimitError
from llamabox.chat.formats.base import Tool
from llamabox.chat.normalise.variables import template_variables

type Render = Callable[[dict[str, Any]], str]
type Message = dict[str, Any]

USER: Final = "qxuserone"
SECOND_USER: Final = "qxusertwo"
ANSWER: Final = "qxanswer"
REASONING: Final[dict[str, Any]] = {"reasoning_content": "qxreasona", "thinking": "qxreasonb"}  # by the message's field
RESULT: Final = "qxresulta"
SECOND_RESULT: Final = "qxresultb"
NUMBER: Final = 907133


@attrs.frozen(kw_only=True)
class Call:
    """A tool call whose name, id, keys and values are unique."""

    name: str
    id: str  # nine letters and digits: some templates insist
    arguments: Mapping[str, Any]


FIRST: Final = Call(name="qxfuncone", id="qxid00001", arguments={"qxkeya": "qxvala", "qxkeyb": "qxvalb"})
SECOND: Final = Call(name="qxfunctwo", id="qxid00002", arguments={"qxkeyc": "qxvalc"})
NUMERIC: Final = attrs.evolve(FIRST, arguments={"qxkeya": NUMBER})
LONG_ID: Final = attrs.evolve(FIRST, id="call_qxid0000000000000001")


def tool_of(call: Call) -> Tool:
    """The tool that was called."""
    properties = {key: {"type": "string", "description": "a text"} for key in call.arguments}
    parameters = {"type": "object", "properties": properties, "required": list(call.arguments)}
    return Tool(name=call.name, description="does something", parameters=parameters)


TOOLS: Final = (tool_of(FIRST), tool_of(SECOND))


@attrs.define
class Prober:
    """Renders conversations. None stands for what the template refuses; TemplateLimitError is passed on."""

    _render: Render
    parts: bool = False  # content as a list of parts
    strings: bool = False  # arguments as JSON text
    tools_name: str = "tools"
    tools_as_text: bool = False

    def user(self, text: str = USER) -> Message:
        """What the user says."""
        return {"role": "user", "content": self._content(text)}

    def answer(self, **fields: Any) -> Message:
        """What the assistant answers."""
        return {"role": "assistant", "content": self._content(ANSWER), **fields}

    def calls(self, *calls: Call, strings: bool | None = None, **fields: Any) -> Message:
        """The assistant's calls, without other content."""
        as_text = self.strings if strings is None else strings
        listed = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": json.dumps(call.arguments) if as_text else dict(call.arguments),
                },
            }
            for call in calls
        ]
        return {"role": "assistant", "content": self._content(""), "tool_calls": listed, **fields}

    def result(self, call: Call, text: str) -> Message:
        """What a tool gave back."""
        return {"role": "tool", "name": call.name, "tool_call_id": call.id, "content": self._content(text)}

    def text(
        self, *messages: Message, tools: bool = False, prompt: bool = False, enable_thinking: bool = True
    ) -> str | None:
        """The text of a conversation; ``prompt``: with the generation prompt."""
        try:
            return self.render(*messages, tools=tools, prompt=prompt, enable_thinking=enable_thinking)
        except TemplateLimitError:
            raise
        except TemplateError:
            return None

    def render(
        self, *messages: Message, tools: bool = False, prompt: bool = False, enable_thinking: bool = True
    ) -> str:
        """Like ``text``. Raises TemplateError if the template refuses."""
        capabilities = Capabilities(tool_argument_name=self.tools_name, tools_as_text=self.tools_as_text)
        told = template_variables(capabilities, tools=TOOLS if tools else (), enable_thinking=enable_thinking)
        return self._render({"messages": list(messages), "add_generation_prompt": prompt, **told})

    def _content(self, text: str) -> Any:
        if not self.parts:
            return text
        return [{"type": "text", "text": text}] if text else []
