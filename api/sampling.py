"""Request fields over the server's defaults to the engine's parameters."""

import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from api.errors import bad_request
from api.fields import GenerationFields
from engine.bridge import TextEngine
from engine.text.requests import KNOWN_SAMPLERS, SAMPLER_LETTERS, SamplingParams
from llamabox.services import Prompts
from llamabox.settings import GenerationDefaults

_OTHER_NAMES: Final[Mapping[str, str]] = {
    "typical_p": "typ_p",
    "typical": "typ_p",
    "temp": "temperature",
    "top-k": "top_k",
    "top-p": "top_p",
    "min-p": "min_p",
    "typical-p": "typ_p",
    "top-n-sigma": "top_n_sigma",
}
_MAX_SAMPLERS: Final = 32
_MAX_BIAS: Final = 1e6
_ID: Final = re.compile(r"-?[0-9]{1,10}")
_CONVERTED: Final = {"seed", "top_k", "dry_sequence_breakers", "samplers", "logit_bias", "logprobs"}
# Fields that go over as they are.
_PLAIN: Final = tuple(field.name for field in attrs.fields(SamplingParams) if field.name not in _CONVERTED)


async def sampling_params(
    fields: GenerationFields,
    defaults: GenerationDefaults,
    engine: TextEngine,
    prompts: Prompts,
    *,
    logprobs: bool,
    n_probs: int | None = None,
) -> SamplingParams:
    """How tokens are drawn. ``logprobs`` and ``n_probs`` are what the route's own fields ask for.

    Raises ApiError 400 on a value that no range of the shapes catches.
    """
    changes: dict[str, Any] = {name: value for name in _PLAIN if (value := getattr(fields, name)) is not None}
    if fields.seed is not None:
        changes["seed"] = _seed(fields.seed)
    if fields.top_k is not None:
        changes["top_k"] = max(fields.top_k, 0)
    if fields.dry_sequence_breakers is not None:
        changes["dry_sequence_breakers"] = tuple(fields.dry_sequence_breakers)
    if fields.samplers is not None:
        changes["samplers"] = sampler_names(fields.samplers)
    if fields.logit_bias is not None:
        changes["logit_bias"] = await logit_bias(fields.logit_bias, engine.info.n_vocab, prompts)
    if n_probs is not None:
        changes["n_probs"] = n_probs
    return attrs.evolve(defaults.sampling, **changes, logprobs=logprobs)


def _seed(seed: int) -> int | None:
    """The native generator takes 32 bits, of which all ones mean random (as -1 does)."""
    short = seed % 2**32
    return None if short == 2**32 - 1 else short


def sampler_names(samplers: str | list[str]) -> tuple[str, ...]:
    """Names in order, from names, names parted by semicolons, or letters. Raises ApiError 400."""
    if isinstance(samplers, str):
        return _from_text(samplers)
    if len(samplers) > _MAX_SAMPLERS:
        raise bad_request(f"samplers: at most {_MAX_SAMPLERS}", "samplers")
    names = tuple(_OTHER_NAMES.get(name, name) for name in samplers)
    if unknown := [name for name in names if name not in KNOWN_SAMPLERS]:
        raise bad_request(f"samplers: unknown {unknown[0]!r}, known are {', '.join(KNOWN_SAMPLERS)}", "samplers")
    return names


def _from_text(text: str) -> tuple[str, ...]:
    if ";" in text or text in KNOWN_SAMPLERS or text in _OTHER_NAMES:
        return sampler_names([name.strip() for name in text.split(";") if name.strip()])
    if unknown := [letter for letter in text if letter not in SAMPLER_LETTERS]:
        raise bad_request(f"samplers: unknown letter {unknown[0]!r}, known are {''.join(SAMPLER_LETTERS)}", "samplers")
    return sampler_names([SAMPLER_LETTERS[letter] for letter in text])


async def logit_bias(
    given: Mapping[str, float | bool] | list[tuple[int | str, float | bool]], n_vocab: int, prompts: Prompts
) -> tuple[tuple[int, float], ...]:
    """(token, bias) pairs; a text biases each of its tokens, false forbids. Raises ApiError 400."""
    is_map = isinstance(given, Mapping)
    pairs = list(given.items()) if isinstance(given, Mapping) else given
    result: list[tuple[int, float]] = []
    for key, value in pairs:
        bias = _bias(value)
        for token in await _bias_tokens(key, prompts, digits_are_ids=is_map):
            if not 0 <= token < n_vocab:
                raise bad_request(f"logit_bias: no token {token} in a vocabulary of {n_vocab}", "logit_bias")
            result.append((token, bias))
    return tuple(result)


async def _bias_tokens(key: int | str, prompts: Prompts, *, digits_are_ids: bool) -> list[int]:
    if isinstance(key, int):
        return [key]
    if digits_are_ids and _ID.fullmatch(key):
        return [int(key)]
    return await prompts.tokenize(key, add_special=False, parse_special=True)


def _bias(value: float | bool) -> float:
    if value is False:
        return float("-inf")
    if value is True or not -_MAX_BIAS <= value <= _MAX_BIAS:
        raise bad_request("logit_bias: a bias is a number between -1e6 and 1e6, or false", "logit_bias")
    return float(value)
