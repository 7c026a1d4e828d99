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


class Lane(Protocol):
    """A context that computes while others do, with its part of the threads; it holds nothing of a text.

    ``most_tokens``, ``most_texts``: of one batch.
    """

    @property
    def most_tokens(self) -> int: ...

    @property
    def most_texts(self) -> int: ...

    def compute(self, pieces: Sequence[Piece]) -> list[Vector] | None:
        """As ``EmbeddingBackend.compute``. On any thread, by one at a time."""


class EmbeddingBackend(Protocol):
    """Used by the engine thread only, ``abort`` and what runs on ``lanes`` excepted.

    ``lanes``: where batches can be computed side by side; empty where all threads must work on one. ``compute`` may be
    called only while none of them computes.
    """

    info: EmbeddingInfo
    lanes: Sequence[Lane]

    def compute(self, pieces: Sequence[Piece]) -> list[Vector] | None:
        """The vectors of the pieces, or None when it was aborted: then none of them counts.

        A piece whose start is not 0 continues what its sequence holds. Raises NativeError when the library fails.
        """

    def forget(self, seq: int, start: int) -> None:
        """Drop what the sequence holds from position ``start`` on."""

    def abort(self) -> None:
        """Make all running computes return None soon. Any thread; stays set until ``clear_abort``."""

    def clear_abort(self) -> None:
        """Let computes run again."""

    def close(self) -> None:
        """Free everything. Idempotent."""
