"""Which samplers a request's parameters call for, and whether they are sane. No native code."""

import enum
import math
import secrets
from typing import Final

import attrs

from engine.errors import InvalidRequest
from engine.text.requests import KNOWN_SAMPLERS, SamplingParams

# Samplers that never remove the most probable token, nor make another one more probable than it.
_KEEP_THE_BEST: Final = frozenset({"top_k", "top_p", "min_p", "top_n_sigma", "temperature"})
# Below this, dividing by the temperature could overflow, and the result is the greedy one anyway.
_GREEDY_BELOW: Final = 1e-6
_FLOAT32_MAX: Final = 3.0e38
_INT32_MAX: Final = 2**31 - 1
_RANDOM_SEED: Final = 2**32 - 1  # the library's "choose one yourself"
_FLOATS: Final = tuple(field.name for field in attrs.fields(SamplingParams) if field.type is float)


class Choice(enum.Enum):
    """How the token is chosen in the end."""

    BEST = enum.auto()  # the best one is the answer, without any sampler
    SOFTMAX = enum.auto()  # drawn from all tokens, by the temperature alone
    CHAIN = enum.auto()  # by a native chain


@attrs.frozen(kw_only=True)
class SamplingPlan:
    """What is left of the parameters once everything without effect is dropped. Applied in the order of the fields."""

    params: SamplingParams
    bias: dict[int, float]  # token → what is added to its logit; -inf forbids
    penalties_first: bool  # penalties on the whole row, before the native chain
    nucleus_first: bool  # top_p on the whole row, before the native chain
    stages: tuple[str, ...]  # samplers of the native chain, in order
    greedy: bool  # the best candidate is taken, else one is drawn
    choice: Choice
    seed: int  # 32 bits


def plan_sampling(
    params: SamplingParams, *, n_vocab: int, eog: tuple[int, ...], suppressed: tuple[int, ...]
) -> SamplingPlan:
    """The plan for ``params``. Raises InvalidRequest, naming the field, for what the library would choke on."""
    validate(params, n_vocab=n_vocab)
    greedy = params.temperature < _GREEDY_BELOW
    if params.mirostat and not greedy:
        stages: tuple[str, ...] = ("mirostat",)
    elif params.mirostat:
        stages = ()
    else:
        stages = tuple(name for name in params.samplers if not _without_effect(name, params, greedy=greedy))
    penalties_first = stages[:1] == ("penalties",)
    stages = stages[1:] if penalties_first else stages
    nucleus_first = stages[:1] == ("top_p",) and not greedy
    stages = stages[1:] if nucleus_first else stages
    return SamplingPlan(
        params=params,
        bias=_bias(params, eog=eog, suppressed=suppressed),
        penalties_first=penalties_first,
        nucleus_first=nucleus_first,
        stages=stages,
        greedy=greedy,
        choice=_choice(params, stages, greedy=greedy, nucleus_first=nucleus_first),
        seed=_seed(params.seed),
    )


def _choice(params: SamplingParams, stages: tuple[str, ...], *, greedy: bool, nucleus_first: bool) -> Choice:
    if greedy:
        return Choice.BEST if _KEEP_THE_BEST.issuperset(stages) else Choice.CHAIN
    # Only the chain tells the probabilities that it has drawn with.
    chained = nucleus_first or stages not in ((), ("temperature",)) or params.dynatemp_range > 0
    return Choice.CHAIN if chained or params.post_sampling_probs else Choice.SOFTMAX


def _seed(seed: int | None) -> int:
    if seed is None or seed < 0 or seed & _RANDOM_SEED == _RANDOM_SEED:
        return secrets.randbelow(_RANDOM_SEED)
    return seed & _RANDOM_SEED


def _bias(params: SamplingParams, *, eog: tuple[int, ...], suppressed: tuple[int, ...]) -> dict[int, float]:
    bias: dict[int, float] = {}
    for token, value in params.logit_bias:
        bias[token] = bias.get(token, 0.0) + value
    forbidden = suppressed + (eog if params.ignore_eos else ())
    return bias | dict.fromkeys(forbidden, -math.inf)


def _without_effect(name: str, params: SamplingParams, *, greedy: bool) -> bool:
    match name:
        case "penalties":
            neutral = params.repeat_penalty == 1 and params.frequency_penalty == 0 and params.presence_penalty == 0
            return neutral or params.repeat_last_n == 0
        case "dry":
            return params.dry_multiplier == 0 or params.dry_penalty_last_n == 0
        case "top_k":
            return params.top_k <= 0
        case "typ_p":
            return params.typical_p >= 1
        case "top_p":
            return params.top_p >= 1
        case "min_p":
            return params.min_p <= 0
        case "xtc":
            return params.xtc_probability <= 0 or params.xtc_threshold > 0.5  # no two tokens exceed it
        case "temperature":
            return not greedy and params.temperature == 1 and params.dynatemp_range <= 0
        case _:
            return params.top_n_sigma <= 0


def validate(params: SamplingParams, *, n_vocab: int) -> None:
    """Raise InvalidRequest, naming the field, for values that the library accepts and then fails on."""
    for field in _FLOATS:
        value = getattr(params, field)
        if not math.isfinite(value) or abs(value) > _FLOAT32_MAX:
            raise InvalidRequest(f"{field} must be a finite number", field)
    if params.repeat_penalty <= 0 or 1 / params.repeat_penalty > _FLOAT32_MAX:
        raise InvalidRequest("repeat_penalty must be greater than 0", "repeat_penalty")
    if params.dry_multiplier != 0 and params.dry_base < 1:
        raise InvalidRequest("dry_base must be at least 1", "dry_base")
    for field, lowest in (
        ("repeat_last_n", -1),
        ("dry_penalty_last_n", -1),
        ("dry_allowed_length", 0),
        ("min_keep", 0),
        ("n_probs", 0),
    ):
        if not lowest <= getattr(params, field) <= _INT32_MAX:
            raise InvalidRequest(f"{field} must be between {lowest} and {_INT32_MAX}", field)
    if params.mirostat not in (0, 1, 2):
        raise InvalidRequest("mirostat must be 0, 1 or 2", "mirostat")
    _validate_lists(params, n_vocab)


def _validate_lists(params: SamplingParams, n_vocab: int) -> None:
    for name in params.samplers:
        if name not in KNOWN_SAMPLERS:
            raise InvalidRequest(f"unknown sampler {name!r} (known: {', '.join(KNOWN_SAMPLERS)})", "samplers")
    for token, value in params.logit_bias:
        if not 0 <= token < n_vocab:
            raise InvalidRequest(
                f"logit_bias: token {token} is not in the vocabulary (0 to {n_vocab - 1})", "logit_bias"
            )
        if math.isnan(value) or value > _FLOAT32_MAX:
            raise InvalidRequest("logit_bias must be a finite number, or minus infinity", "logit_bias")
