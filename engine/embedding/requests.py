"""What is asked of the embedding side of the engine, and what it answers."""

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from engine.errors import ContextExceeded, InvalidRequest
from engine.native.options import Pooling

type Vector = NDArray[np.float32]


@attrs.frozen(kw_only=True)
class RankFormat:
    """How a query and a document become one text: by ``template``, or by the tokens that are put around them."""

    template: str | None  # with {query} and {document}; its text is tokenized with special tokens
    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]


@attrs.frozen(kw_only=True)
class EmbeddingInfo:
    """What the loaded model's embedding side can do."""

    pooling: Pooling
    n_embd: int  # length of a vector; with RANK the number of scores
    n_vocab: int
    max_tokens: int  # of one text
    n_batch: int  # tokens of one decode
    n_seqs: int  # texts of one decode
    splittable: bool  # a text may be computed in several decodes
    rank: RankFormat
    scores_are_shares: bool = False  # the scores come out of a softmax: they lie between 0 and 1 already

    def validate(self, request: "EmbeddingRequest") -> None:
        """Raise ContextExceeded or InvalidRequest for what can never be computed. Any thread."""
        if not request.texts:
            raise InvalidRequest("there is no text", "input")
        for text in request.texts:
            if not text:
                raise InvalidRequest("a text has no tokens", "input")
            if len(text) > self.max_tokens:
                raise ContextExceeded(len(text), self.max_tokens)
            if min(text) < 0 or max(text) >= self.n_vocab:
                raise InvalidRequest(f"a token is not in the vocabulary (0 to {self.n_vocab - 1})", "input")


@attrs.frozen(kw_only=True)
class EmbeddingRequest:
    """Token ids of each text. The id must be unique among the running ones."""

    id: str
    texts: Sequence[Sequence[int]]

    @property
    def n_tokens(self) -> int:
        return sum(map(len, self.texts))


@attrs.frozen(kw_only=True, eq=False)
class Embedded:
    """The terminal event of a request that was served: one entry a text, as the library gives them (not normalised).

    float32[n_embd] each; with pooling NONE float32[tokens of the text, n_embd].
    """

    vectors: tuple[Vector, ...]
