"""What POST /v1/responses accepts. Fields that are not named here are accepted and ignored: clients send many."""

from typing import Annotated, Any, Final, Literal

import attrs
from msgspec import Meta

from api.fields import Count, GenerationFields

LOGPROBS: Final = "message.output_text.logprobs"
SEALED_REASONING: Final = "reasoning.encrypted_content"

type Include = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    # These belong to tools and media that a request cannot have here: nothing is left out by accepting them.
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]


@attrs.frozen(kw_only=True)
class ReasoningFields:
    """``summary`` asks for a shorter form of the reasoning; the reply has the whole reasoning instead."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed", "none"] | None = None


@attrs.frozen(kw_only=True)
class TextFields:
    format: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class ResponsesFields(GenerationFields):
    """POST /v1/responses."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextFields | None = None
    reasoning: ReasoningFields | None = None
    max_output_tokens: Count | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[Include] | None = None
    metadata: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    # What this server cannot do
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None
    background: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None

    @property
    def is_kept(self) -> bool:
        return self.store is not False

    @property
    def token_limit(self) -> int | None:
        if self.max_output_tokens is not None:
            return self.max_output_tokens
        return super().token_limit

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in (self.include or ()) or bool(self.top_logprobs)

    @property
    def wants_sealed_reasoning(self) -> bool:
        return SEALED_REASONING in (self.include or ())
