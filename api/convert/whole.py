"""Whole numbers that are written with a fraction, ``5.0``: numbers of languages that know only floats."""

from typing import Any, Final

_MOST: Final = 2**63  # of a whole number in a body
_NOT_WHOLE: Final = "got `float`"


def is_about_a_float(error: Exception) -> bool:
    """Whether msgspec found a float where it expected something else."""
    return _NOT_WHOLE in str(error)


def whole(value: Any) -> Any:
    """The same JSON value with such numbers as int; others, also large ones, stay. Raises RecursionError."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and -_MOST <= value < _MOST else value
    if isinstance(value, list):
        return [whole(item) for item in value]
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    return value
