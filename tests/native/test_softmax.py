"""Drawing from a whole row."""

import math
from collections import Counter

import numpy as np
import pytest

from engine.native.softmax import SoftmaxDraw


@pytest.mark.parametrize("size", [1, 2, 1023, 1024, 1025, 5000])
def test_every_index_can_be_drawn_and_no_other(size: int) -> None:
    draw = SoftmaxDraw(1, 1.0)
    for only in {0, size // 2, size - 1}:
        row = np.full(size, -math.inf, np.float32)
        row[only] = -700.0
        assert {draw.choose(row) for _ in range(20)} == {only}


@pytest.mark.parametrize("size", [3, 1500])
def test_frequencies_are_probabilities(size: int) -> None:
    row = np.full(size, -math.inf, np.float32)
    row[0], row[size // 2], row[size - 1] = math.log(0.2), math.log(0.5), math.log(0.3)
    draw = SoftmaxDraw(2, 1.0)
    counts = Counter(draw.choose(row) for _ in range(10_000))
    assert [counts[at] / 10_000 for at in (0, size // 2, size - 1)] == pytest.approx([0.2, 0.5, 0.3], abs=0.015)


def test_the_temperature_divides() -> None:
    row = np.array([0.0, 2.0], np.float32)
    draw = SoftmaxDraw(3, 2.0)
    share = sum(draw.choose(row) for _ in range(10_000)) / 10_000
    assert share == pytest.approx(1 / (1 + math.exp(-1)), abs=0.015)
    assert {SoftmaxDraw(3, 1e-3).choose(row) for _ in range(10)} == {1}


def test_the_seed_decides() -> None:
    row = np.zeros(3000, np.float32)
    first, again, other = (SoftmaxDraw(seed, 1.0) for seed in (5, 5, 6))
    drawn = [first.choose(row) for _ in range(20)]
    assert drawn == [again.choose(row) for _ in range(20)]
    assert drawn != [other.choose(row) for _ in range(20)]
