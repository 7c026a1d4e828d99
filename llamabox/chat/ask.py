"""What a client asks of a chat model, whichever API it speaks, and what becomes of it."""

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from engine.text.media import MediaSpan
from engine.text.requests import GrammarSpec, Thinking
from llamabox.chat.formats.base import Tool
from llamabox.chat.parser import OutputParser


class ToolChoice(enum.Enum):
    """NONE: the model knows the tools and may not call them. REQUIRED: it must call at least one."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


@attrs.frozen(kw_only=True)
class ChatAsk:
    """A conversation and what is wanted next. Messages are as in OpenAI's chat API, checked by ``plan``."""

    messages: Sequence[Mapping[str, Any]]
    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = ToolChoice.AUTO
    named: str | None = None  # with REQUIRED: the one tool that may be called
    parallel: bool = True  # several calls in one turn
    schema: Any = None  # JSON schema that the answer must satisfy; {"type": "object"}: any JSON object
    strict: bool = True  # what llguidance does not know in the schema is an error, else it is ignored
    grammar: str | None = None  # GBNF or llguidance's Lark for the answer
    enable_thinking: bool | None = None  # None: the server's setting
    reasoning_effort: str | None = None  # given to the template
    reasoning_budget: int | None = None  # tokens; -1: no limit; None: the server's setting
    variables: Mapping[str, Any] = attrs.field(factory=dict)  # more variables for the template
    add_generation_prompt: bool = True
    continue_final_message: bool = False


@attrs.frozen(kw_only=True)
class ChatPlan:
    """All that is needed to generate and to understand the answer."""

    text: str  # the prompt
    tokens: Sequence[int]
    parser: Callable[[], OutputParser]  # a new one for each choice
    media: tuple[MediaSpan, ...] = ()  # where images and sounds stand among the tokens
    grammar: GrammarSpec | None = None
    visible: frozenset[int] = frozenset()  # control tokens that the parser must see
    thinking: Thinking | None = None
    stop: tuple[str, ...] = ()  # more stop strings

    @property
    def n_tokens(self) -> int:
        """The prompt's length as users count it: an image may take more tokens than positions."""
        return len(self.tokens) + sum(span.extra for span in self.media)
