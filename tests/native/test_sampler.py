"""Samplers on real logits: each one against the definition, the fast paths against the native chain."""

import ctypes
import math
from collections import Counter
from collections.abc import Callable, Sequence

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import InvalidRequest
from engine.native import library
from engine.native.candidates import Candidates
from engine.text.backend import Run
from engine.text.llama_backend import LlamaBackend
from engine.text.requests import KNOWN_SAMPLERS, SamplingParams
from tests.models.tiny_llm import EOS, N_VOCAB, vocabulary

PROMPT = list(range(300, 340))
END_OF_TURN = [text for text, _, _ in vocabulary()].index("<|im_end|>")
NEUTRAL = SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0, seed=7)
ON = {  # one value for each sampler that makes it act
    "penalties": {"repeat_penalty": 1.5, "frequency_penalty": 0.5, "presence_penalty": 0.25},
    "dry": {"dry_multiplier": 2.0, "dry_allowed_length": 1},
    "top_k": {"top_k": 3},
    "typ_p": {"typical_p": 0.3},
    "top_p": {"top_p": 0.5},
    "min_p": {"min_p": 0.5},
    "xtc": {"xtc_probability": 1.0, "xtc_threshold": 0.02},
    "temperature": {"temperature": 0.5},
    "top_n_sigma": {"top_n_sigma": 1.0},
}


@pytest.fixture
def ready(backend: LlamaBackend) -> LlamaBackend:
    """A backend whose last decode left logits at ``len(PROMPT) - 1``."""
    backend.decode([Run(0, 0, PROMPT, True)])
    return backend


def row_of(backend: LlamaBackend) -> NDArray[np.float32]:
    return backend._context.logits_row(len(PROMPT) - 1).copy()


def softmax(row: NDArray[np.float32]) -> NDArray[np.float64]:
    e = np.exp(row.astype(np.float64) - row.max())
    return e / e.sum()


def draw(backend: LlamaBackend, params: SamplingParams, n: int = 1) -> list[int]:
    """``n`` tokens from the same logits, drawn by one sampler."""
    sampler = backend.create_sampler(params)
    tokens = [sampler.sample(len(PROMPT) - 1)[0] for _ in range(n)]
    sampler.close()
    return tokens


def distribution(backend: LlamaBackend, params: SamplingParams, history: Sequence[int] = ()) -> dict[int, float]:
    """The probabilities that the first draw is made from."""
    asked = attrs.evolve(params, n_probs=N_VOCAB, post_sampling_probs=True)
    sampler = backend.create_sampler(asked)
    sampler.accept(history)
    info = sampler.sample(len(PROMPT) - 1)[1]
    sampler.close()
    assert info is not None
    return {entry.token: math.exp(entry.logprob) for entry in info.top}


def test_greedy_is_the_native_greedy(ready: LlamaBackend) -> None:
    lib = library.start()
    native = lib.llama_sampler_init_greedy()
    array = Candidates(lib, N_VOCAB).fill(row_of(ready), None)
    lib.llama_sampler_apply(native, ctypes.byref(array))
    expected = array.data[array.selected].id
    lib.llama_sampler_free(native)
    assert draw(ready, SamplingParams(temperature=0), 3) == [expected] * 3


@pytest.mark.parametrize("name", KNOWN_SAMPLERS)
def test_each_sampler_changes_the_distribution_and_is_a_distribution(ready: LlamaBackend, name: str) -> None:
    best = int(row_of(ready).argmax())
    history = [305, best] * 3 + [305]  # the best token would continue a repetition
    plain = distribution(ready, NEUTRAL, history)
    params = attrs.evolve(NEUTRAL, samplers=(name,), **ON[name])
    changed = distribution(ready, params, history)
    assert sum(changed.values()) == pytest.approx(1, abs=1e-4)
    assert changed.keys() <= plain.keys()
    assert any(abs(changed.get(token, 0) - plain[token]) > 1e-3 for token in plain)
    # Not named: not applied.
    assert distribution(ready, attrs.evolve(params, samplers=()), history) == pytest.approx(plain)


def test_neutral_parameters_draw_from_the_softmax(ready: LlamaBackend) -> None:
    expected = softmax(row_of(ready))
    assert distribution(ready, NEUTRAL) == pytest.approx(dict(enumerate(expected)), abs=1e-6)
    counts = Counter(draw(ready, NEUTRAL, 4000))
    best = int(expected.argmax())
    assert counts[best] / 4000 == pytest.approx(expected[best], abs=0.03)


def test_truncations_by_definition(ready: LlamaBackend) -> None:
    p = softmax(row_of(ready))
    order = np.argsort(-p)
    on = lambda **values: set(distribution(ready, attrs.evolve(NEUTRAL, **values)))  # noqa: E731
    assert on(top_k=3) == set(order[:3])
    nucleus = int(np.searchsorted(np.cumsum(p[order]), 0.5)) + 1
    assert on(top_p=0.5) == set(order[:nucleus])
    assert on(min_p=0.5) == set(np.flatnonzero(p >= 0.5 * p.max()))
    assert len(on(min_p=0.99, min_keep=4)) == 4


def test_order_matters(ready: LlamaBackend) -> None:
    params = attrs.evolve(NEUTRAL, temperature=3.0, min_p=0.3)
    first = distribution(ready, attrs.evolve(params, samplers=("min_p", "temperature")))
    last = distribution(ready, attrs.evolve(params, samplers=("temperature", "min_p")))
    assert first.keys() < last.keys()


@pytest.mark.parametrize("history", [[], PROMPT, PROMPT * 3])
def test_leading_penalties_equal_the_native_ones(ready: LlamaBackend, history: list[int]) -> None:
    params = attrs.evolve(NEUTRAL, repeat_last_n=50, **ON["penalties"])
    # A stage that leaves everything in place keeps the penalties from leading.
    native = attrs.evolve(params, top_k=N_VOCAB, samplers=("top_k", "penalties"))
    assert distribution(ready, params, history) == pytest.approx(distribution(ready, native, history), abs=1e-6)


def test_penalties_see_drawn_tokens(ready: LlamaBackend) -> None:
    tokens = draw(ready, SamplingParams(temperature=0, presence_penalty=1000.0), 5)
    assert len(set(tokens)) == 5
    tokens = draw(ready, SamplingParams(temperature=0, presence_penalty=1000.0, repeat_last_n=1), 4)
    assert tokens[0] == tokens[2] != tokens[1] == tokens[3]


def test_greedy_through_a_chain(ready: LlamaBackend) -> None:
    best = int(row_of(ready).argmax())
    assert draw(ready, SamplingParams(temperature=0, dynatemp_range=0.5), 2) == [best] * 2
    assert draw(ready, SamplingParams(temperature=0, mirostat=1), 2) == [best] * 2
    # The best token at both ends of the order: penalised before the temperature, it loses, after it, it cannot.
    params = SamplingParams(temperature=0, presence_penalty=1000.0)
    assert len(set(draw(ready, attrs.evolve(params, samplers=("top_k", "penalties", "temperature")), 2))) == 2
    assert draw(ready, attrs.evolve(params, samplers=("temperature", "penalties")), 2) == [best] * 2


@pytest.mark.parametrize("mirostat", [1, 2])
def test_mirostat_replaces_the_other_samplers(ready: LlamaBackend, mirostat: int) -> None:
    params = attrs.evolve(NEUTRAL, temperature=2.0, mirostat=mirostat, mirostat_tau=5.0)
    tokens = draw(ready, params, 30)
    assert len(set(tokens)) > 1
    assert draw(ready, attrs.evolve(params, top_k=1, presence_penalty=1000.0), 30) == tokens
    assert draw(ready, attrs.evolve(params, temperature=1.0), 30) != tokens


def test_dynamic_temperature_sharpens_what_is_sure(ready: LlamaBackend) -> None:
    plain = distribution(ready, NEUTRAL)
    dynamic = distribution(ready, attrs.evolve(NEUTRAL, dynatemp_range=0.9))
    best = max(plain, key=plain.__getitem__)
    assert dynamic[best] != pytest.approx(plain[best], abs=1e-3)


def test_seed_decides(ready: LlamaBackend) -> None:
    wide = attrs.evolve(NEUTRAL, temperature=2.0)
    assert draw(ready, wide, 20) == draw(ready, wide, 20)
    assert draw(ready, wide, 20) != draw(ready, attrs.evolve(wide, seed=8), 20)
    assert draw(ready, attrs.evolve(wide, seed=None), 20) != draw(ready, attrs.evolve(wide, seed=None), 20)
    assert draw(ready, attrs.evolve(wide, seed=2**32 + 7), 20) == draw(ready, wide, 20)


def test_bias_forbids_and_forces(ready: LlamaBackend) -> None:
    best = int(row_of(ready).argmax())
    assert draw(ready, SamplingParams(temperature=0, logit_bias=((best, -math.inf),))) != [best]
    assert draw(ready, SamplingParams(temperature=0, logit_bias=((42, 50.0), (42, 50.0)))) == [42]
    assert best not in distribution(ready, attrs.evolve(NEUTRAL, logit_bias=((best, -math.inf),)))


def test_end_of_generation_can_be_ignored(ready: LlamaBackend) -> None:
    forced = SamplingParams(temperature=0, logit_bias=((EOS, 90.0), (END_OF_TURN, 80.0), (42, 70.0)))
    assert draw(ready, forced) == [EOS]
    assert draw(ready, attrs.evolve(forced, ignore_eos=True)) == [42]


def test_everything_forbidden_is_the_requests_fault(ready: LlamaBackend) -> None:
    bias = tuple((token, -math.inf) for token in range(N_VOCAB))
    sampler = ready.create_sampler(SamplingParams(logit_bias=bias))
    with pytest.raises(InvalidRequest, match="forbids every token"):
        sampler.sample(len(PROMPT) - 1)
    sampler.close()


def test_log_probabilities_are_of_the_raw_logits(ready: LlamaBackend) -> None:
    expected = np.log(softmax(row_of(ready)))
    order = np.argsort(-expected, kind="stable")
    sampler = ready.create_sampler(SamplingParams(temperature=0, n_probs=3, logit_bias=((42, 100.0),)))
    token, info = sampler.sample(len(PROMPT) - 1)
    sampler.close()
    assert info is not None
    assert token == info.token == 42
    assert info.piece == ready.vocab.piece(42, special=True)
    assert info.logprob == pytest.approx(expected[42], abs=1e-4)
    assert [entry.token for entry in info.top] == list(order[:3])
    assert [entry.logprob for entry in info.top] == pytest.approx(expected[order[:3]], abs=1e-4)


def test_infos_only_when_asked_for(ready: LlamaBackend) -> None:
    def info(**values: object) -> object:
        sampler = ready.create_sampler(SamplingParams(temperature=0, **values))
        result = sampler.sample(len(PROMPT) - 1)[1]
        sampler.close()
        return result

    assert info() is None
    assert info(logprobs=True).top == ()
    certain = info(n_probs=2, post_sampling_probs=True)
    assert certain.logprob == 0
    assert [entry.token for entry in certain.top] == [certain.token]


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"temperature": math.nan}, "temperature"),
        ({"top_p": math.inf}, "top_p"),
        ({"min_p": math.nan}, "min_p"),
        ({"repeat_penalty": 0.0}, "repeat_penalty"),
        ({"repeat_penalty": -1.0}, "repeat_penalty"),
        ({"repeat_penalty": 1e-45}, "repeat_penalty"),
        ({"frequency_penalty": math.nan}, "frequency_penalty"),
        ({"presence_penalty": 1e300}, "presence_penalty"),
        ({"mirostat_tau": math.nan}, "mirostat_tau"),
        ({"mirostat": 3}, "mirostat"),
        ({"min_keep": -1}, "min_keep"),
        ({"n_probs": -1}, "n_probs"),
        ({"repeat_last_n": -2}, "repeat_last_n"),
        ({"repeat_last_n": 2**40}, "repeat_last_n"),
        ({"dry_multiplier": 1.0, "dry_base": 0.5}, "dry_base"),
        ({"dry_multiplier": 1.0, "dry_sequence_breakers": ("a\0b",)}, "dry_sequence_breakers"),
        ({"samplers": ("top_k", "magic")}, "samplers"),
        ({"logit_bias": ((N_VOCAB, 1.0),)}, "logit_bias"),
        ({"logit_bias": ((-1, 1.0),)}, "logit_bias"),
        ({"logit_bias": ((1, math.nan),)}, "logit_bias"),
        ({"logit_bias": ((1, math.inf),)}, "logit_bias"),
    ],
)
def test_values_that_the_library_would_swallow_are_refused(
    backend: LlamaBackend, values: dict[str, object], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        backend.create_sampler(SamplingParams(**values))
    assert caught.value.param == param


@pytest.mark.parametrize(
    "values",
    [
        {"top_k": 2**40},
        {"temperature": 1e-300},
        {"temperature": -1.0},
        {"temperature": 1e30},
        {"min_keep": 2**31 - 1},
        {"dynatemp_range": 1e30, "dynatemp_exponent": -1e30},
        {"repeat_last_n": -1, "repeat_penalty": 1.1, "samplers": ("top_k", "penalties")},
        {"dry_multiplier": 1.0, "dry_sequence_breakers": ("", "x" * 1000), "dry_allowed_length": 2**31 - 1},
        {"mirostat": 1, "mirostat_eta": 1e30},
        {"mirostat": 2, "mirostat_tau": -1e30},
        {"xtc_probability": 1.0, "xtc_threshold": 0.0},
        {"typical_p": -1.0},
        {"top_p": -1.0},
        {"min_p": 2.0},
        {"samplers": ("top_k",) * 100},
    ],
)
def test_extreme_values_still_give_a_token(ready: LlamaBackend, values: dict[str, object]) -> None:
    assert all(0 <= token < N_VOCAB for token in draw(ready, SamplingParams(seed=1, **values), 5))


@pytest.mark.parametrize(
    "misuse",
    [
        lambda sampler: sampler.sample(len(PROMPT)),
        lambda sampler: sampler.sample(-1),
        lambda sampler: sampler.accept([N_VOCAB]),
        lambda sampler: sampler.accept([-1]),
    ],
)
def test_misuse_is_an_error(ready: LlamaBackend, misuse: Callable[..., object]) -> None:
    sampler = ready.create_sampler(SamplingParams(repeat_penalty=1.1))
    with pytest.raises(ValueError, match=r"no logits|vocabulary"):
        misuse(sampler)
    sampler.close()
    sampler.close()


def test_more_dry_settings_than_are_kept(ready: LlamaBackend) -> None:
    settings = [SamplingParams(temperature=0, dry_multiplier=1.0 + n) for n in range(40)]
    best = int(row_of(ready).argmax())
    # Kept ones are cloned and evicted ones freed: none may suffer from another's end.
    assert [draw(ready, params) for params in settings * 2] == [[best]] * 80
