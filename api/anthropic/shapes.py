"""What POST /v1/messages accepts. Fields that are not named here are accepted and ignored: clients send many."""

from typing import Any, Literal

import attrs

from api.fields import Count, GenerationFields, Words

type Blocks = str | list[dict[str, Any]]


@attrs.frozen(kw_only=True)
class MessageFields:
    role: Literal["user", "assistant", "system"]
    content: Blocks


@attrs.frozen(kw_only=True)
class ThinkingFields:
    """``adaptive`` leaves to the model how long it thinks. ``display`` omitted: the reply has empty thinking."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Count | None = None
    display: Literal["summarized", "omitted"] | None = None


@attrs.frozen(kw_only=True)
class FormatFields:
    type: Literal["json_schema"]
    schema: dict[str, Any]


@attrs.frozen(kw_only=True)
class OutputFields:
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: FormatFields | None = None


@attrs.frozen(kw_only=True)
class CountFields(GenerationFields):
    """POST /v1/messages/count_tokens: all that decides the prompt."""

    messages: list[MessageFields]
    system: Blocks | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: ThinkingFields | None = None
    output_config: OutputFields | None = None
    output_format: FormatFields | None = None  # the older name of output_config.format
    chat_template_kwargs: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class MessagesFields(CountFields):
    """POST /v1/messages."""

    max_tokens: Count
    stop_sequences: Words | None = None
    metadata: dict[str, Any] | None = None

    @property
    def token_limit(self) -> int:
        return self.max_tokens

    @property
    def hides_thinking(self) -> bool:
        return self.thinking is not None and self.thinking.display == "omitted"
