"""Vectors as text: short, and nothing is lost."""

import json

import numpy as np
import pytest

from api.embedding.encode import encode_list, numbers


@pytest.mark.parametrize("dimensions", [None, 3])
async def test_numbers_are_as_short_as_a_float32_allows(dimensions: int | None) -> None:
    rows = np.array([[0.1, -1 / 3, 1e-20, 3e10], [0, -0.0, 1, 2**-24]], np.float32)
    body = await encode_list(
        [rows[:, :dimensions]], lambda index, vector: {"index": index, "embedding": numbers(vector)}
    )
    (entry,) = json.loads(body)
    assert np.array_equal(np.array(entry["embedding"], np.float32), rows[:, :dimensions])
    assert b"[0.1,-0.33333334,1e-20" in body
