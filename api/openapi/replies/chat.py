"""Replies of the OpenAI chat route."""

from typing import Literal

import attrs
from msgspec import UNSET, UnsetType

from api.openapi.replies.figures import PromptProgress, TimingsObject, Usage

type FinishReason = Literal["stop", "length", "tool_calls", "function_call"]


@attrs.frozen(kw_only=True)
class TopLogprob:
    token: str
    logprob: float
    bytes: list[int]


@attrs.frozen(kw_only=True)
class TokenLogprob:
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


@attrs.frozen(kw_only=True)
class ChatLogprobs:
    content: list[TokenLogprob]
    refusal: None


@attrs.frozen(kw_only=True)
class FunctionCall:
    """``arguments`` is JSON text."""

    name: str
    arguments: str


@attrs.frozen(kw_only=True)
class CustomCall:
    name: str
    input: str


@attrs.frozen(kw_only=True)
class ToolCallObject:
    """It has the field that ``type`` names."""

    id: str
    type: Literal["function", "custom"]
    function: FunctionCall | UnsetType = UNSET
    custom: CustomCall | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class ChatMessage:
    """``function_call`` stands for tool_calls where the request had ``functions``."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallObject] | UnsetType = UNSET
    function_call: FunctionCall | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class ChatChoice:
    """``tokens`` with return_tokens."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    tokens: list[int] | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class ChatCompletion:
    """POST /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    timings: TimingsObject


@attrs.frozen(kw_only=True)
class FunctionDelta:
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class CustomDelta:
    name: str | UnsetType = UNSET
    input: str | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class ToolCallDelta:
    """Id, type and name come once, with the first piece of a call."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function", "custom"] | UnsetType = UNSET
    function: FunctionDelta | UnsetType = UNSET
    custom: CustomDelta | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class ChatDelta:
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET
    function_call: FunctionDelta | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class ChunkChoice:
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None
    tokens: list[int] | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class ChatCompletionChunk:
    """One event of a streamed answer; ``usage`` with stream_options.include_usage, in the last chunk."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    timings: TimingsObject | UnsetType = UNSET
    prompt_progress: PromptProgress | UnsetType = UNSET
