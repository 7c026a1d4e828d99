"""Lanes without a library, and an executor that computes on the test's own thread, in the order that it wants."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np

from engine.embedding.backend import Piece
from engine.embedding.requests import EmbeddingInfo, Vector
from tests.embedding.fake_embedder import FakeEmbedder, expected


class FakeLane:
    """Satisfies Lane; shares ``aborting`` and ``script`` with the embedder that has it."""

    def __init__(self, embedder: FakeEmbedder, most_tokens: int, most_texts: int) -> None:
        self.most_tokens = most_tokens
        self.most_texts = most_texts
        self.batches: list[list[int]] = []
        self._embedder = embedder

    def compute(self, pieces: Sequence[Piece]) -> list[Vector] | None:
        sizes = [len(piece.tokens) for piece in pieces]
        assert sizes, "an empty batch"
        assert sum(sizes) <= self.most_tokens
        assert len(sizes) <= self.most_texts
        assert [piece.seq for piece in pieces] == list(range(len(sizes)))
        answer = "abort" if self._embedder.aborting else self._embedder.script(pieces)
        if isinstance(answer, Exception):
            raise answer
        if answer == "abort":
            return None
        self.batches.append(sizes)
        return [np.array(expected(piece.tokens), np.float32) for piece in pieces]


def with_lanes(
    info: EmbeddingInfo, count: int = 2, *, most_tokens: int = 20, most_texts: int = 4
) -> tuple[FakeEmbedder, list[FakeLane]]:
    """An embedder and its lanes."""
    embedder = FakeEmbedder(info)
    lanes = [FakeLane(embedder, most_tokens, most_texts) for _ in range(count)]
    embedder.lanes = list(lanes)
    return embedder, lanes


class Held(Executor):
    """What is submitted waits for ``go``."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []
        self.is_shut_down = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.waiting.append(lambda: fn(*args, **kwargs))
        return Future()

    def go(self, index: int = 0) -> None:
        """Let one of those that wait be computed."""
        self.waiting.pop(index)()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        while self.waiting:
            self.go()
        self.is_shut_down = True
