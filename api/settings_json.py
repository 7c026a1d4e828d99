"""Generation settings as the native API shows them."""

from typing import Any, Final

from api.lora import lora_json
from engine.text.requests import GenerationRequest, SamplingParams

_RANDOM_SEED: Final = 2**32 - 1


def sampling_json(sampling: SamplingParams) -> dict[str, Any]:
    """How tokens are drawn, under the names of the request fields."""
    return {
        "seed": _RANDOM_SEED if sampling.seed is None else sampling.seed,
        "temperature": sampling.temperature,
        "dynatemp_range": sampling.dynatemp_range,
        "dynatemp_exponent": sampling.dynatemp_exponent,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "top_n_sigma": sampling.top_n_sigma,
        "xtc_probability": sampling.xtc_probability,
        "xtc_threshold": sampling.xtc_threshold,
        "typical_p": sampling.typical_p,
        "repeat_last_n": sampling.repeat_last_n,
        "repeat_penalty": sampling.repeat_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "dry_multiplier": sampling.dry_multiplier,
        "dry_base": sampling.dry_base,
        "dry_allowed_length": sampling.dry_allowed_length,
        "dry_penalty_last_n": sampling.dry_penalty_last_n,
        "dry_sequence_breakers": sampling.dry_sequence_breakers,
        "mirostat": sampling.mirostat,
        "mirostat_tau": sampling.mirostat_tau,
        "mirostat_eta": sampling.mirostat_eta,
        "samplers": sampling.samplers,
        "logit_bias": [{"token": t, "bias": False if b == float("-inf") else b} for t, b in sampling.logit_bias],
        "ignore_eos": sampling.ignore_eos,
        "min_keep": sampling.min_keep,
        "n_probs": sampling.n_probs,
        "post_sampling_probs": sampling.post_sampling_probs,
    }


def generation_settings(request: GenerationRequest, *, stream: bool, timings_per_token: bool) -> dict[str, Any]:
    """generation_settings of the native API. A limit of -1 is none, -2 the end of the context."""
    unlimited = -2 if request.until_context_full else -1
    limit = unlimited if request.max_tokens is None else request.max_tokens
    return {
        **sampling_json(request.sampling),
        "stop": request.stop,
        "max_tokens": limit,
        "n_predict": limit,
        "n_keep": request.n_keep,
        "n_discard": request.n_discard,
        "n_indent": request.n_indent,
        "t_max_predict_ms": request.t_max_predict_ms,
        "cache_prompt": request.cache_prompt,
        "grammar": "" if request.grammar is None else request.grammar.spec.source,
        "stream": stream,
        "timings_per_token": timings_per_token,
        "lora": lora_json(request.adapters),
    }
