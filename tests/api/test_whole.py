"""Whole numbers written with a fraction, in parts of a body."""

from typing import Any

import attrs
import pytest

from api.convert.typed import typed
from api.convert.whole import whole
from api.errors import ApiError


@attrs.frozen
class Part:
    count: int
    extra: Any = None


def test_they_are_read_as_whole_numbers_wherever_they_stand() -> None:
    assert typed({"count": 5.0, "extra": [1.0, {"x": 2.5}]}, Part, "part") == Part(5, [1, {"x": 2.5}])
    assert [type(number) for number in whole([1.0, 1e30, float("inf"), 1.5, True])] == [int, float, float, float, bool]


def test_others_are_refused_by_name() -> None:
    with pytest.raises(ApiError, match=r"part\.count: Expected `int`, got `float`"):
        typed({"count": 5.5}, Part, "part")


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep: Any = 1.0
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ApiError, match="part is nested too deeply"):
        typed({"count": 5.0, "extra": deep}, Part, "part")
