"""What each route accepts. Fields that are not named here are accepted and ignored: clients send many."""

from typing import Annotated, Any, Literal

import attrs
from msgspec import Meta

from api.fields import Choices, Count, CountOrAll, GenerationFields

# A prompt is a text, token ids, a mix of both, an object with media, or a list of such prompts; api.prompt_forms tells
# them apart.
Prompt = str | list[Any] | dict[str, Any]


@attrs.frozen(kw_only=True, slots=False)  # one of two bases below: slots of both would clash
class Templated:
    """What decides the text of a chat prompt, and how its answer is to be begun."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    functions: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    function_call: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    thinking_budget_tokens: CountOrAll | None = None
    reasoning_budget: CountOrAll | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


@attrs.frozen(kw_only=True)
class ChatFields(Templated, GenerationFields):
    """POST /v1/chat/completions."""

    n: Choices | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: dict[str, Any] | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None


@attrs.frozen(kw_only=True)
class CompletionFields(GenerationFields):
    """POST /v1/completions."""

    prompt: Prompt
    n: Choices | None = None
    best_of: Choices | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    suffix: str | None = None
    response_format: dict[str, Any] | None = None
    user: str | None = None


@attrs.frozen(kw_only=True)
class NativeFields(GenerationFields):
    """POST /completion."""

    prompt: Prompt
    n_cmpl: Choices | None = None
    n: Choices | None = None


@attrs.frozen(kw_only=True)
class InfillFile:
    """Another file of the repository."""

    text: str
    filename: str | None = None


@attrs.frozen(kw_only=True)
class InfillFields(GenerationFields):
    """POST /infill."""

    input_prefix: Prompt
    input_suffix: Prompt
    input_extra: list[InfillFile] | None = None
    prompt: str | None = None
    n_cmpl: Choices | None = None
    n: Choices | None = None


@attrs.frozen(kw_only=True)
class TokenizeFields:
    """POST /tokenize."""

    content: str | list[Any]
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None


@attrs.frozen(kw_only=True)
class DetokenizeFields:
    """POST /detokenize."""

    tokens: list[Count]
