"""Samplers that may only draw what a mask allows: the same samplers over fewer tokens."""

import math
from collections.abc import Iterable

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import InvalidRequest
from engine.native.token_mask import TokenMask
from engine.text.llama_backend import LlamaBackend
from engine.text.requests import KNOWN_SAMPLERS, SamplingParams, TokenInfo
from tests.models.tiny_llm import EOS, N_VOCAB
from tests.native.test_sampler import NEUTRAL, ON, PROMPT, ready, row_of, softmax

__all__ = ["ready"]  # the fixture

GREEDY = SamplingParams(temperature=0)
FEW = [270, 301, 305, 340, 399, 400]
MANY = [token for token in range(N_VOCAB) if token % 5]
ALL = list(range(N_VOCAB))


def mask_of(tokens: Iterable[int]) -> bytes:
    bits = np.zeros(N_VOCAB, np.uint8)
    bits[list(tokens)] = 1
    return np.packbits(bits, bitorder="little").tobytes()


def draw(backend: LlamaBackend, params: SamplingParams, tokens: Iterable[int] | None, n: int = 1) -> list[int]:
    sampler = backend.create_sampler(params)
    mask = None if tokens is None else mask_of(tokens)
    drawn = [sampler.sample(len(PROMPT) - 1, mask)[0] for _ in range(n)]
    sampler.close()
    return drawn


def info_of(backend: LlamaBackend, params: SamplingParams, tokens: Iterable[int], history: list[int]) -> TokenInfo:
    sampler = backend.create_sampler(params)
    sampler.accept(history)
    info = sampler.sample(len(PROMPT) - 1, mask_of(tokens))[1]
    sampler.close()
    assert info is not None
    return info


def distribution(
    backend: LlamaBackend, params: SamplingParams, tokens: Iterable[int], history: list[int] | None = None
) -> dict[int, float]:
    asked = attrs.evolve(params, n_probs=N_VOCAB, post_sampling_probs=True)
    return {entry.token: math.exp(entry.logprob) for entry in info_of(backend, asked, tokens, history or []).top}


def best_of(row: NDArray[np.float32], tokens: list[int]) -> int:
    return tokens[int(row[tokens].argmax())]


@pytest.mark.parametrize("tokens", [FEW, MANY, [42], [0], [N_VOCAB - 1]])
def test_greedy_takes_the_best_of_what_is_allowed(ready: LlamaBackend, tokens: list[int]) -> None:
    row = row_of(ready)
    best = int(row.argmax())
    assert draw(ready, GREEDY, tokens) == [best_of(row, tokens)]
    assert draw(ready, GREEDY, [*tokens, best]) == [best]
    assert draw(ready, attrs.evolve(GREEDY, dynatemp_range=0.5), tokens) == [best_of(row, tokens)]


@pytest.mark.parametrize("params", [GREEDY, NEUTRAL, attrs.evolve(NEUTRAL, top_k=3), SamplingParams(seed=3)])
def test_a_mask_of_everything_changes_nothing(ready: LlamaBackend, params: SamplingParams) -> None:
    assert draw(ready, params, ALL, 20) == draw(ready, params, None, 20)


@pytest.mark.parametrize("tokens", [FEW, MANY])
@pytest.mark.parametrize("name", [*KNOWN_SAMPLERS, "mirostat"])
def test_every_sampler_draws_among_the_allowed(ready: LlamaBackend, name: str, tokens: list[int]) -> None:
    values = {"mirostat": 2} if name == "mirostat" else ON[name] | {"samplers": (name,)}
    params = attrs.evolve(NEUTRAL, **values)
    assert set(draw(ready, params, tokens, 200)) <= set(tokens)
    assert sum(distribution(ready, params, tokens).values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("mirostat", [0, 1, 2])
def test_a_single_allowed_token_is_drawn_by_any_sampler(ready: LlamaBackend, mirostat: int) -> None:
    assert draw(ready, SamplingParams(mirostat=mirostat), [42], 5) == [42] * 5
    everything = attrs.evolve(SamplingParams(), **{key: value for on in ON.values() for key, value in on.items()})
    assert draw(ready, attrs.evolve(everything, samplers=KNOWN_SAMPLERS), [42], 5) == [42] * 5


@pytest.mark.parametrize("tokens", [FEW, MANY])
def test_the_distribution_is_the_softmax_over_the_allowed(ready: LlamaBackend, tokens: list[int]) -> None:
    expected = softmax(row_of(ready)[tokens])
    assert distribution(ready, NEUTRAL, tokens) == pytest.approx(dict(zip(tokens, expected, strict=True)), abs=1e-6)


@pytest.mark.parametrize("tokens", [FEW, MANY])
def test_truncations_count_among_the_allowed(ready: LlamaBackend, tokens: list[int]) -> None:
    row = row_of(ready)
    order = sorted(tokens, key=lambda token: -row[token])
    assert set(distribution(ready, attrs.evolve(NEUTRAL, top_k=3), tokens)) == set(order[:3])
    # Fewer allowed than top_k wants, none of them among the best of all.
    worst = order[-2:]
    assert set(distribution(ready, attrs.evolve(NEUTRAL, top_k=3), worst)) == set(worst)


@pytest.mark.parametrize("tokens", [FEW, MANY])
def test_penalties_keep_their_meaning(ready: LlamaBackend, tokens: list[int]) -> None:
    best = best_of(row_of(ready), tokens)
    assert draw(ready, attrs.evolve(GREEDY, presence_penalty=1000.0), tokens, 2)[1] != best
    params = attrs.evolve(NEUTRAL, **ON["penalties"])
    native = attrs.evolve(params, top_k=N_VOCAB, samplers=("top_k", "penalties"))
    history = [best, best, tokens[0]]
    penalised = distribution(ready, params, tokens, history)
    assert penalised == pytest.approx(distribution(ready, native, tokens, history), abs=1e-6)
    assert penalised[best] < distribution(ready, params, tokens)[best]


@pytest.mark.parametrize("tokens", [FEW, MANY])
def test_bias_keeps_its_meaning(ready: LlamaBackend, tokens: list[int]) -> None:
    first, last = tokens[0], tokens[-1]
    assert draw(ready, attrs.evolve(GREEDY, logit_bias=((first, 100.0), (42, 200.0))), [*tokens, first]) in (
        [first],
        [42],
    )
    assert draw(ready, attrs.evolve(GREEDY, logit_bias=((last, 100.0),)), tokens) == [last]
    assert draw(ready, attrs.evolve(GREEDY, logit_bias=((10, 100.0),)), [t for t in tokens if t != 10]) != [10]
    best = best_of(row_of(ready), tokens)
    assert draw(ready, attrs.evolve(GREEDY, logit_bias=((best, -math.inf),)), tokens) != [best]
    assert best not in draw(ready, attrs.evolve(NEUTRAL, logit_bias=((best, -math.inf),)), tokens, 100)


@pytest.mark.parametrize("params", [GREEDY, NEUTRAL, SamplingParams()])
@pytest.mark.parametrize("tokens", [FEW, MANY])
def test_an_allowed_token_that_bias_forbids_is_not_drawn_instead(
    ready: LlamaBackend, params: SamplingParams, tokens: list[int]
) -> None:
    sampler = ready.create_sampler(attrs.evolve(params, logit_bias=tuple((t, -math.inf) for t in tokens)))
    with pytest.raises(InvalidRequest, match="grammar allows"):
        sampler.sample(len(PROMPT) - 1, mask_of(tokens))
    sampler.close()


def test_nothing_allowed_is_an_error(ready: LlamaBackend) -> None:
    sampler = ready.create_sampler(GREEDY)
    with pytest.raises(InvalidRequest, match="grammar allows"):
        sampler.sample(len(PROMPT) - 1, mask_of([]))
    sampler.close()


def test_an_ignored_end_stays_ignored(ready: LlamaBackend) -> None:
    params = SamplingParams(temperature=0, ignore_eos=True, logit_bias=((EOS, 100.0),))
    assert draw(ready, params, [EOS, 42]) == [42]


def test_log_probabilities_are_still_of_the_raw_logits(ready: LlamaBackend) -> None:
    expected = np.log(softmax(row_of(ready)))
    info = info_of(ready, attrs.evolve(GREEDY, n_probs=3), [42], [])
    assert info.token == 42
    assert info.logprob == pytest.approx(expected[42], abs=1e-4)
    assert [entry.token for entry in info.top] == list(np.argsort(-expected, kind="stable")[:3])


def test_the_mask_may_have_more_bits_than_there_are_tokens() -> None:
    mask = TokenMask(bytes([0b101, 0, 0, 0]), 10)
    assert mask.ids().tolist() == [0, 2]
    assert [mask.allows(token) for token in range(4)] == [True, False, True, False]
    assert mask.among(np.array([9, 2, 1, 0])).tolist() == [False, True, False, True]
