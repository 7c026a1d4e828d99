"""The embedding side of an engine that was started without one."""

from collections.abc import Sequence
from typing import Final, NoReturn

import attrs

from engine.embedding.backend import Lane, Piece
from engine.embedding.requests import EmbeddingInfo, EmbeddingRequest, RankFormat
from engine.errors import InvalidRequest
from engine.native.options import Pooling


@attrs.frozen(kw_only=True)
class _NoInfo(EmbeddingInfo):
    def validate(self, request: EmbeddingRequest) -> None:
        """Raise InvalidRequest."""
        raise InvalidRequest("this engine computes no embeddings")


_INFO: Final = _NoInfo(
    pooling=Pooling.NONE,
    n_embd=0,
    n_vocab=0,
    max_tokens=0,
    n_batch=1,
    n_seqs=1,
    splittable=False,
    rank=RankFormat(template=None, before=(), between=(), after=()),
)


class NoEmbeddings:
    """Satisfies ``engine.embedding.backend.EmbeddingBackend``; its info refuses every request."""

    info: EmbeddingInfo = _INFO
    lanes: Sequence[Lane] = ()

    def compute(self, pieces: Sequence[Piece]) -> NoReturn:
        """Never reached: nothing is ever queued."""
        raise AssertionError("there is nothing to compute with")

    def forget(self, seq: int, start: int) -> None:
        """There is nothing to forget."""

    def abort(self) -> None:
        """Nothing runs."""

    def clear_abort(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """There is nothing to free."""
