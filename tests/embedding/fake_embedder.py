"""An embedding backend without a model: a vector tells which tokens its sequence really holds."""

from collections.abc import Callable, Sequence

import numpy as np

from engine.embedding.backend import Lane, Piece
from engine.embedding.requests import EmbeddingInfo, RankFormat, Vector
from engine.native.options import Pooling

NO_RANK = RankFormat(template=None, before=(), between=(), after=())


def make_info(**changes: object) -> EmbeddingInfo:
    """Texts of up to 40 tokens, 16 tokens and 4 texts a batch."""
    facts = {
        "pooling": Pooling.LAST,
        "n_embd": 3,
        "n_vocab": 1000,
        "max_tokens": 40,
        "n_batch": 16,
        "n_seqs": 4,
        "splittable": False,
        "rank": NO_RANK,
    }
    return EmbeddingInfo(**(facts | changes))  # type: ignore[arg-type]


def expected(tokens: Sequence[int]) -> list[float]:
    """The fake model: length, sum and last token."""
    return [float(len(tokens)), float(sum(tokens)), float(tokens[-1])]


class FakeEmbedder:
    """Satisfies EmbeddingBackend. ``script`` may answer for a batch: None (aborted) or an error to raise."""

    def __init__(self, info: EmbeddingInfo | None = None) -> None:
        self.info = info or make_info()
        self.lanes: list[Lane] = []
        self.held: dict[int, list[int]] = {}  # tokens by sequence
        self.batches: list[list[int]] = []  # sizes of the pieces of each batch
        self.script: Callable[[Sequence[Piece]], str | Exception] = lambda pieces: "compute"
        self.aborting = False
        self.closed = False

    def compute(self, pieces: Sequence[Piece]) -> list[Vector] | None:
        sizes = [len(piece.tokens) for piece in pieces]
        assert sizes, "an empty batch"
        assert sum(sizes) <= self.info.n_batch or (len(sizes) == 1 and not self.info.splittable), sizes
        assert len({piece.seq for piece in pieces}) == len(pieces) <= self.info.n_seqs
        answer = "abort" if self.aborting else self.script(pieces)
        if isinstance(answer, Exception):
            raise answer
        if answer == "abort":
            return None
        self.batches.append(sizes)
        vectors: list[Vector] = []
        for piece in pieces:
            before = self.held.get(piece.seq, [])
            assert len(before) == piece.start, "positions must follow on"
            self.held[piece.seq] = [*before, *piece.tokens]
            vectors.append(np.array(expected(self.held[piece.seq]), np.float32))
        return vectors

    def forget(self, seq: int, start: int) -> None:
        kept = self.held.pop(seq, [])[:start]
        if kept:
            self.held[seq] = kept

    def abort(self) -> None:
        self.aborting = True

    def clear_abort(self) -> None:
        self.aborting = False

    def close(self) -> None:
        self.closed = True
