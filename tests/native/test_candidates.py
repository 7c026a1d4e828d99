"""The numpy parts of sampling: preselection, log probabilities, penalties."""

import ctypes
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.native import library
from engine.native.candidates import Candidates, log_sum_exp, top_indices, top_superset
from engine.native.penalties import PenaltyWindow


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 300), ties=st.booleans())
def test_superset_has_the_best_and_few_more(seed: int, k: int, *, ties: bool) -> None:
    row = np.random.default_rng(seed).standard_normal(40_000).astype(np.float32)
    if ties:
        row = row.round(1)
    found = top_superset(row, k)
    assert found is not None
    assert list(found) == sorted(set(found))
    bound = np.sort(row)[-k]
    assert set(np.flatnonzero(row > bound)) <= set(found)
    assert np.count_nonzero(row[found] >= bound) >= k
    if not ties:
        assert len(found) < 3 * k + 50


def test_superset_gives_up_where_it_would_not_pay() -> None:
    assert top_superset(np.zeros(512, np.float32), 5) is None
    assert top_superset(np.zeros(40_000, np.float32), 30_000) is None
    assert top_superset(np.full(40_000, np.nan, np.float32), 5) is None


@pytest.mark.parametrize("size", [5, 512, 40_000])
def test_best_first_and_lower_index_first(size: int) -> None:
    row = np.random.default_rng(0).standard_normal(size).astype(np.float32).round(1)
    expected = np.argsort(-row, kind="stable")
    for n in (0, 1, 4, size, size + 1):
        got = top_indices(row, n)
        assert list(row[got]) == list(row[expected[:n]])
    assert top_indices(np.array([1, 3, 3, 2], np.float32), 2).tolist() == [1, 2]


def test_log_sum_exp_does_not_overflow() -> None:
    assert log_sum_exp(np.array([1000.0, 1000.0, -np.inf], np.float32)) == pytest.approx(1000 + math.log(2))


@given(
    tokens=st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=8),
    size=st.integers(1, 6),
    repeat=st.floats(0.5, 2),
    frequency=st.floats(-1, 1),
    presence=st.floats(-1, 1),
)
def test_penalties_by_the_book(
    tokens: list[list[int]], size: int, repeat: float, frequency: float, presence: float
) -> None:
    window = PenaltyWindow(size=size, repeat=repeat, frequency=frequency, presence=presence)
    for part in tokens:
        window.accept(part)
    row = np.linspace(-2, 2, 10, dtype=np.float32)
    expected = row.astype(np.float64)
    for token, count in Counter([token for part in tokens for token in part][-size:]).items():
        value = expected[token] * repeat if expected[token] <= 0 else expected[token] / repeat
        expected[token] = value - count * frequency - presence
    window.apply(row)
    np.testing.assert_allclose(row, expected, atol=1e-5)


def test_preselection_leaves_the_native_top_k_the_same() -> None:
    lib = library.start()
    row = np.random.default_rng(1).standard_normal(40_000).astype(np.float32)
    candidates = Candidates(lib, len(row))
    sampler = lib.llama_sampler_init_top_k(40)
    results = []
    for ids in (None, top_superset(row, 40)):
        array = candidates.fill(row, ids)
        lib.llama_sampler_apply(sampler, ctypes.byref(array))
        results.append(candidates.remaining())
    lib.llama_sampler_free(sampler)
    assert results[0]["id"].tolist() == results[1]["id"].tolist() == np.argsort(-row)[:40].tolist()
    assert results[0]["logit"].tolist() == results[1]["logit"].tolist()
