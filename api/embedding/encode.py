"""Vectors to JSON, in portions: a large answer must not hold up the streams of others."""

import base64
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import orjson
import trio

from engine.embedding.requests import Vector

_PORTION: Final = 16 * 1024  # numbers; about a millisecond


def numbers(vector: Vector) -> Any:
    """Floats, or lists of them: with as many digits as tell a float32 from its neighbours."""
    return np.ascontiguousarray(vector)


def base64_text(vector: Vector) -> Any:
    """Little-endian float32 in base64; a list of those where there is a vector for each token."""
    if vector.ndim > 1:
        return [base64_text(row) for row in vector]
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def bits(vector: Vector) -> Any:
    """A bit for each number, set where it is above zero: eight in a byte, from the highest on; zeros fill the last."""
    return np.packbits(vector > 0, axis=-1)


def signed_bits(vector: Vector) -> Any:
    """The same bytes less 128, as those who store signed ones expect them."""
    return bits(vector).astype(np.int16) - 128


async def encode_list(vectors: Sequence[Vector], entry: Callable[[int, Vector], Any]) -> bytes:
    """A JSON list of ``entry(index, vector)`` for each vector."""
    parts: list[bytes] = []
    since = 0
    for index, vector in enumerate(vectors):
        parts.append(orjson.dumps(entry(index, vector), option=orjson.OPT_SERIALIZE_NUMPY))
        since += int(np.size(vector))
        if since >= _PORTION:
            since = 0
            await trio.lowlevel.checkpoint()
    return b"[" + b",".join(parts) + b"]"
