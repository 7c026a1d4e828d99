"""The numpy parts of sampling: preselection, log probabilities, penalties."""

import ctypes
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.native import library
from engine.native.candidates import (
    Candidates,
    best_index,
    log_sum_exp,
    near_top,
    nucleus,
    top_indices,
    top_superset,
)
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
        assert list(got) == list(expected[:n])
    assert top_indices(np.array([1, 3, 3, 2], np.float32), 2).tolist() == [1, 2]


def test_values_that_are_no_numbers_come_last() -> None:
    row = np.array([math.nan, 1, 3, math.nan, 2], np.float32)
    assert top_indices(row, 2).tolist() == [2, 4]
    assert top_indices(row, 4).tolist()[:3] == [2, 4, 1]


@given(seed=st.integers(0, 2**32 - 1), distance=st.floats(0, 5), size=st.sampled_from([1, 400, 20_000]))
def test_near_the_top_is_all_that_is_near_and_nothing_far(seed: int, distance: float, size: int) -> None:
    row = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    found = near_top(row, distance)
    assert set(np.flatnonzero(row >= row.max() - distance)) <= set(found)
    assert row[found].min() >= row.max() - distance - 0.01
    assert list(found) == sorted(found)


@given(
    seed=st.integers(0, 2**32 - 1),
    p=st.floats(0.001, 0.999),
    least=st.sampled_from([0, 1, 7, 300, 3000]),
    size=st.sampled_from([5, 400, 20_000]),
    sharpness=st.sampled_from([0.1, 1.0, 4.0]),
    ties=st.booleans(),
)
def test_the_nucleus_is_the_smallest_set_that_reaches_p(
    seed: int, p: float, least: int, size: int, sharpness: float, *, ties: bool
) -> None:
    row = (np.random.default_rng(seed).standard_normal(size) * sharpness).astype(np.float32)
    row = row.round(1) if ties else row
    found = nucleus(row, p, least)
    kept = np.arange(size) if found is None else found
    weights = np.exp(row.astype(np.float64))
    weights /= weights.sum()
    order = np.argsort(-row, kind="stable")
    assert sorted(kept) == sorted(order[: len(kept)])  # the best ones, of equals the first
    edge = 1e-5  # how far apart two sums of 20,000 numbers may be
    if len(kept) > max(least, 1):
        assert weights[order[: len(kept) - 1]].sum() < p + edge
    if len(kept) < size:
        assert weights[kept].sum() > p - edge
        assert len(kept) >= least


@given(st.lists(st.sampled_from([math.nan, -math.inf, -1.0, 0.0, 2.0]), min_size=1, max_size=8))
def test_the_best_is_what_a_comparison_one_by_one_finds(values: list[float]) -> None:
    row = np.array(values, np.float32)
    best = 0
    for index in range(1, len(values)):
        if values[index] > values[best]:
            best = index
    assert best_index(row) == best
    # Where index 0 is not token 0, what comes first has no advantage.
    numbers = [value for value in values if not math.isnan(value)]
    if numbers:
        assert values[best_index(row, np.arange(len(values)) + 1)] == max(numbers)


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
        array = candidates.fill(row if ids is None else row[ids], ids)
        lib.llama_sampler_apply(sampler, ctypes.byref(array))
        results.append(candidates.remaining())
    lib.llama_sampler_free(sampler)
    assert results[0]["id"].tolist() == results[1]["id"].tolist() == np.argsort(-row)[:40].tolist()
    assert results[0]["logit"].tolist() == results[1]["logit"].tolist()
