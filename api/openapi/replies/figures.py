"""Counts and speeds in replies."""

import attrs
from msgspec import UNSET, UnsetType


@attrs.frozen(kw_only=True)
class PromptDetails:
    cached_tokens: int


@attrs.frozen(kw_only=True)
class CompletionDetails:
    reasoning_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


@attrs.frozen(kw_only=True)
class Usage:
    """OpenAI's usage with speeds. Always finite numbers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails
    time_to_first_token_ms: float
    time_per_output_token_ms: float
    prompt_tokens_per_second: float
    tokens_per_second: float
    draft_tokens: int
    draft_tokens_acceptance: float


@attrs.frozen(kw_only=True)
class TimingsObject:
    """The draft fields are there where something was drafted."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float
    draft_n: int | UnsetType = UNSET
    draft_n_accepted: int | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class PromptProgress:
    """How much of the prompt is computed, with return_progress."""

    total: int
    cache: int
    processed: int
    time_ms: float
