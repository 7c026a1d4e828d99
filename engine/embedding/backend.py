"""What the embedding worker needs of a model: the llama.cpp adapter and the fake of the tests both satisfy it."""

from collections.abc import Sequence
from typing import Protocol

import attrs

from engine.embedding.requests import EmbeddingInfo, Vector


@attrs.frozen
class Piece:
    """Consecutive tokens of one text, from position ``start``; the whole text unless it is computed in several."""

    seq: int
    start: int
    tokens: Sequence[int]


class EmbeddingBackend(Protocol):
    """Used by the engine thread only, ``abort`` excepted."""

    info: EmbeddingInfo

    def compute(self, pieces: Sequence[Piece]) -> list[Vector] | None:
        """The vectors of the pieces, or None when it was aborted: then none of them counts.

        A piece whose start is not 0 continues what its sequence holds. Raises NativeError when the library fails.
        """

    def forget(self, seq: int, start: int) -> None:
        """Drop what the sequence holds from position ``start`` on."""

    def abort(self) -> None:
        """Make a running compute return None soon. Any thread; stays set until ``clear_abort``."""

    def clear_abort(self) -> None:
        """Let computes run again."""

    def close(self) -> None:
        """Free everything. Idempotent."""
