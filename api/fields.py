"""The generation fields that all text routes share, with the range of each. null means absent."""

from typing import Annotated, Any, Final

import attrs
from msgspec import Meta

_INT_MAX: Final = 2**31 - 1  # what the native side holds
_SEED_MAX: Final = 2**63 - 1

Count = Annotated[int, Meta(ge=0, le=_INT_MAX)]
CountOrAll = Annotated[int, Meta(ge=-1, le=_INT_MAX)]
Limit = Annotated[int, Meta(ge=-2, le=_INT_MAX)]  # -1: none, -2: until the context is full
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Penalty = Annotated[float, Meta(ge=-100.0, le=100.0)]
UpTo100 = Annotated[float, Meta(ge=0.0, le=100.0)]
Choices = Annotated[int, Meta(ge=1, le=128)]
Words = Annotated[list[Annotated[str, Meta(max_length=4096)]], Meta(max_length=128)]


@attrs.frozen(kw_only=True)
class LoraScale:
    """Adapter ``id`` at strength ``scale``."""

    id: Count
    scale: Annotated[float, Meta(ge=-1000.0, le=1000.0)]


@attrs.frozen(kw_only=True)
class StreamOptions:
    include_usage: bool | None = None


@attrs.frozen(kw_only=True)
class GenerationFields:
    """Contract: "Generation fields, all text routes". None: the flag's or the server's value."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Drawing a token
    seed: Annotated[int, Meta(ge=-1, le=_SEED_MAX)] | None = None
    temperature: UpTo100 | None = None
    top_k: CountOrAll | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    top_n_sigma: Annotated[float, Meta(ge=-1e6, le=1e6)] | None = None
    typical_p: Share | None = None
    xtc_probability: Share | None = None
    xtc_threshold: Share | None = None
    dynatemp_range: UpTo100 | None = None
    dynatemp_exponent: UpTo100 | None = None
    repeat_last_n: CountOrAll | None = None
    repeat_penalty: Annotated[float, Meta(gt=0.0, le=100.0)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    dry_multiplier: UpTo100 | None = None
    dry_base: Annotated[float, Meta(ge=1.0, le=100.0)] | None = None
    dry_allowed_length: Count | None = None
    dry_penalty_last_n: CountOrAll | None = None
    dry_sequence_breakers: Words | None = None
    mirostat: Annotated[int, Meta(ge=0, le=2)] | None = None
    mirostat_tau: UpTo100 | None = None
    mirostat_eta: Share | None = None
    samplers: str | list[str] | None = None
    logit_bias: dict[str, float | bool] | list[tuple[int | str, float | bool]] | None = None
    ignore_eos: bool | None = None
    min_keep: Count | None = None
    n_probs: Annotated[int, Meta(ge=0, le=1000)] | None = None
    post_sampling_probs: bool | None = None
    # Where it starts and ends
    n_predict: Limit | None = None
    max_tokens: Limit | None = None
    max_completion_tokens: Limit | None = None
    stop: Annotated[str, Meta(max_length=4096)] | Words | None = None
    n_keep: CountOrAll | None = None
    n_discard: Count | None = None
    n_indent: Count | None = None
    t_max_predict_ms: Annotated[float, Meta(ge=-1.0, le=1e12)] | None = None
    id_slot: CountOrAll | None = None
    cache_prompt: bool | None = None
    # What the answer says
    return_tokens: bool | None = None
    timings_per_token: bool | None = None
    return_progress: bool | None = None
    response_fields: list[str] | None = None
    # What it must look like
    grammar: str | None = None
    json_schema: Any = None
    # What it is computed with
    lora: Annotated[list[LoraScale], Meta(max_length=1024)] | None = None

    @property
    def streaming(self) -> bool:
        return bool(self.stream)

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def token_limit(self) -> int | None:
        """The first one given of the names that the limit goes by."""
        for value in (self.max_completion_tokens, self.max_tokens, self.n_predict):
            if value is not None:
                return value
        return None
