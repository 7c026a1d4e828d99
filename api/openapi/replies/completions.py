"""Replies of the older OpenAI route, and of llama-server's own."""

from typing import Any, Literal

import attrs
from msgspec import UNSET, UnsetType

from api.openapi.replies.figures import PromptProgress, TimingsObject, Usage


@attrs.frozen(kw_only=True)
class TextLogprobs:
    """One entry a token; ``text_offset`` in characters."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


@attrs.frozen(kw_only=True)
class TextChoice:
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"] | None
    tokens: list[int] | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class TextCompletion:
    """POST /v1/completions; a streamed one comes in pieces of the same shape."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage | UnsetType | None = UNSET
    timings: TimingsObject | UnsetType = UNSET
    prompt_progress: PromptProgress | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class TokenProbability:
    """``logprob``, or with post_sampling_probs ``prob``."""

    id: int
    token: str
    bytes: list[int]
    logprob: float | UnsetType = UNSET
    prob: float | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class TokenProbabilities:
    """The chosen token and its alternatives, best first."""

    id: int
    token: str
    bytes: list[int]
    logprob: float | UnsetType = UNSET
    prob: float | UnsetType = UNSET
    top_logprobs: list[TokenProbability] | UnsetType = UNSET
    top_probs: list[TokenProbability] | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class NativeCompletion:
    """POST /completion. response_fields may leave a part of it. The last event of a stream has the same shape."""

    index: int
    content: str
    tokens: list[int]
    id_slot: int
    stop: Literal[True]
    model: str
    tokens_predicted: int
    tokens_evaluated: int
    tokens_cached: int
    generation_settings: dict[str, Any]
    prompt: str
    has_new_line: bool
    truncated: bool
    stop_type: Literal["none", "eos", "limit", "word"]
    stopping_word: str
    timings: TimingsObject
    completion_probabilities: list[TokenProbabilities] | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class NativePart:
    """An event of a streamed POST /completion before the last one."""

    index: int
    content: str
    tokens: list[int]
    stop: Literal[False]
    id_slot: int
    tokens_predicted: int
    tokens_evaluated: int
    timings: TimingsObject | UnsetType = UNSET
    prompt_progress: PromptProgress | UnsetType = UNSET
    completion_probabilities: list[TokenProbabilities] | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class Piece:
    """``piece`` as text, or as bytes where it is not UTF-8."""

    id: int
    piece: str | list[int]


@attrs.frozen(kw_only=True)
class TokenList:
    """POST /tokenize: ids, or with with_pieces ids and pieces."""

    tokens: list[int | Piece]


@attrs.frozen(kw_only=True)
class ContentText:
    """POST /detokenize."""

    content: str


@attrs.frozen(kw_only=True)
class PromptText:
    """POST /apply-template."""

    prompt: str
