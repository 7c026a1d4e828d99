"""Replies of the Responses API and of the Messages API. Items, blocks and events are the vendors' own objects."""

from typing import Any, Literal

import attrs
from msgspec import UNSET, UnsetType


@attrs.frozen(kw_only=True)
class ResponseObject:
    """POST /v1/responses; the settings of the request are repeated beside these fields."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    model: str
    output: list[dict[str, Any]]
    usage: dict[str, Any] | None


@attrs.frozen(kw_only=True)
class ResponseInputTokens:
    """POST /v1/responses/input_tokens."""

    object: Literal["response.input_tokens"]
    input_tokens: int


@attrs.frozen(kw_only=True)
class ResponseDeleted:
    """DELETE /v1/responses/ID."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


@attrs.frozen(kw_only=True)
class ResponseItemList:
    """A page of input items. The ids are null where ``data`` is empty."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


@attrs.frozen(kw_only=True)
class ResponseEvent:
    """One event of a streamed response; ``type`` says which fields it has beside these."""

    type: str
    sequence_number: int


@attrs.frozen(kw_only=True)
class MessageUsage:
    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: dict[str, int] | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class MessageObject:
    """POST /v1/messages."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"] | None
    stop_sequence: str | None
    usage: MessageUsage


@attrs.frozen(kw_only=True)
class MessageEvent:
    """One event of a streamed message; ``type`` says which fields it has beside it."""

    type: str


@attrs.frozen(kw_only=True)
class InputTokens:
    """POST /v1/messages/count_tokens."""

    input_tokens: int


@attrs.frozen(kw_only=True)
class MessageErrorObject:
    type: str
    message: str
    n_prompt_tokens: int | UnsetType = UNSET
    n_ctx: int | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class MessageError:
    """A failure as the Messages API tells it."""

    type: Literal["error"]
    error: MessageErrorObject
    request_id: str
