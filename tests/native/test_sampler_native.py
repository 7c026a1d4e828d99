"""Whatever the logits: the token that llama.cpp's greedy sampler takes, and log probabilities by definition."""

import math
from collections.abc import Iterator

import attrs
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.errors import InvalidRequest
from engine.native.model import Model
from engine.native.options import ModelOptions
from engine.text.requests import SamplingParams
from tests.native.rows import Rows, mask_of

# Multiples of a quarter are exact in any order of computing, and they tie often.
QUARTERS = st.integers(-40, 40).map(lambda n: n / 4)
SIZES = st.sampled_from([7, 300, 9_001])


@attrs.frozen
class Drawn:
    row: NDArray[np.float32]
    allowed: NDArray[np.intp] | None
    history: list[int]
    params: SamplingParams


@st.composite
def draws(draw: st.DrawFn) -> Drawn:
    """Logits with ties and NaN, and everything that may change which one is the best."""
    n_vocab = draw(SIZES)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    row = (rng.standard_normal(n_vocab) * draw(st.sampled_from([1.0, 8.0]))).astype(np.float32)
    row = (row * 4).round() / 4
    token = st.one_of(st.sampled_from(np.argsort(-row)[:5].tolist()), st.integers(0, n_vocab - 1))
    for bad in draw(st.lists(token, max_size=3)):
        row[bad] = draw(st.sampled_from([math.nan, -math.inf]))
    if draw(st.booleans()):
        row[0] = draw(st.sampled_from([math.nan, -math.inf, 50.0]))
    allowed = None
    share = draw(st.sampled_from([None, None, 0.01, 0.5, 0.99]))
    if share is not None:
        allowed = np.flatnonzero(rng.random(n_vocab) < share)
        if draw(st.booleans()):
            allowed = np.setdiff1d(allowed, np.argsort(-row)[: n_vocab // 2])
    bias = draw(st.dictionaries(token, st.one_of(QUARTERS, st.just(-math.inf)), max_size=4))
    penalties = draw(
        st.fixed_dictionaries(
            {
                "repeat_penalty": st.sampled_from([1.0, 0.5, 2.0]),
                "frequency_penalty": QUARTERS,
                "presence_penalty": QUARTERS,
                "repeat_last_n": st.sampled_from([0, 1, 4, 64]),
            }
        )
    )
    params = SamplingParams(temperature=0, logit_bias=tuple(bias.items()), **penalties if draw(st.booleans()) else {})
    return Drawn(row, allowed, draw(st.lists(token, max_size=8)), params)


@pytest.fixture(scope="module")
def model(tiny_model: object) -> Iterator[Model]:
    model = Model(ModelOptions(path=str(tiny_model)))
    yield model
    model.close()


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], max_examples=300, deadline=None)
@given(drawn=draws())
def test_greedy_is_the_librarys_with_everything_before_it(model: Model, drawn: Drawn) -> None:
    rows = Rows(model, drawn.row.copy())
    native = rows.native(attrs.evolve(drawn.params, samplers=("penalties",)), drawn.history, greedy=True)
    # The library's grammar forbids a token by its logit.
    constrained = drawn.row.copy()
    if drawn.allowed is not None:
        constrained[np.setdiff1d(np.arange(len(constrained)), drawn.allowed)] = -math.inf
    expected = native.choose(constrained)[0]
    native.close()
    forbidden = {token for token, value in drawn.params.logit_bias if value == -math.inf}
    possible = {*range(len(drawn.row))} if drawn.allowed is None else {*drawn.allowed.tolist()}
    possible -= forbidden | {*np.flatnonzero(~(drawn.row > -math.inf)).tolist()}
    assume(possible)
    sampler = rows.sampler(drawn.params, drawn.history)
    mask = None if drawn.allowed is None else mask_of(drawn.allowed, len(drawn.row))
    assert sampler.sample(0, mask)[0] == expected
    sampler.close()
    np.testing.assert_array_equal(rows.row, drawn.row)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=100, deadline=None)
@given(drawn=draws(), n=st.sampled_from([0, 1, 5, 20, 300]), temperature=st.sampled_from([0.0, 0.8]))
def test_log_probabilities_are_of_the_logits_before_anything_else(
    model: Model, drawn: Drawn, n: int, temperature: float
) -> None:
    row = np.where(np.isnan(drawn.row), 0, drawn.row).astype(np.float32)
    forbidden = {token for token, value in drawn.params.logit_bias if value == -math.inf}
    allowed = range(len(row)) if drawn.allowed is None else drawn.allowed.tolist()
    assume(any(token not in forbidden and row[token] > -math.inf for token in allowed))
    rows = Rows(model, row)
    params = attrs.evolve(drawn.params, n_probs=n, logprobs=True, temperature=temperature, seed=1)
    sampler = rows.sampler(params, drawn.history)
    token, info = sampler.sample(0, None if drawn.allowed is None else mask_of(drawn.allowed, len(row)))
    sampler.close()
    shifted = row.astype(np.float64) - row.max()
    expected = shifted - math.log(np.exp(shifted).sum())
    assert info is not None
    assert token == info.token
    assert info.logprob == pytest.approx(expected[token], abs=1e-4)
    best = np.argsort(-row, kind="stable")[:n]
    assert [entry.token for entry in info.top] == best.tolist()
    assert [entry.logprob for entry in info.top] == pytest.approx(expected[best].tolist(), abs=1e-4)


@pytest.mark.parametrize("mask", [None, [1, 5, 6], range(1, 9_000)])
def test_a_refused_draw_leaves_the_logits_as_they_were(model: Model, mask: list[int] | None) -> None:
    row = np.random.default_rng(1).standard_normal(9_001).astype(np.float32)
    rows = Rows(model, row.copy())
    for temperature in (0.0, 0.8):
        everything = tuple((token, -math.inf) for token in range(len(row)))
        params = SamplingParams(temperature=temperature, logit_bias=everything, presence_penalty=1.0)
        sampler = rows.sampler(params, [5, 6])
        with pytest.raises(InvalidRequest, match="forbids every token"):
            sampler.sample(0, None if mask is None else mask_of(mask, len(row)))
        sampler.close()
        np.testing.assert_array_equal(rows.row, row)
