"""Several contexts for batches of texts, each with a part of the threads.

Threads that compute one batch together wait for each other after each of some 150 operations of a small model; those
with a batch each never do. Measured with MiniLM on two cores, see tools/bench/RESULTS.md.
"""

from collections.abc import Sequence
from typing import Final

import attrs

from engine.embedding.backend import Lane, Piece
from engine.embedding.llama_embedder import LlamaEmbedder, open_beside, open_embedder
from engine.embedding.options import EmbeddingOptions
from engine.embedding.requests import Vector
from engine.native import devices
from engine.native.model import Model
from engine.native.options import ContextOptions, Placement
from engine.native.placement import spread_over

# Tokens of a batch for each context: 128 cost as much each as 256, and those who come meanwhile wait half as long.
BEST_SHARE: Final = 128
# Longer texts are computed by all threads together.
LONGEST_SHARED: Final = 512
# The library keeps a row of the vocabulary's size for each token of a batch, also where nobody wants logits.
MOST_BYTES: Final = 256 << 20


def open_embedders(model: Model, base: ContextOptions, options: EmbeddingOptions) -> "LlamaEmbedder | ParallelEmbedder":
    """The embedding side of a loaded model: on several contexts where that is of use, else on one.

    Of use: on processors, for models that hold nothing of a text, and where nobody has said which thread runs where.
    Raises ModelLoadError as ``open_embedder`` does.
    """
    main = open_embedder(model, base, options)
    n_threads, n_tokens = base.n_threads_batch, min(main.info.max_tokens, LONGEST_SHARED)
    n_contexts = min(n_threads, 1 + MOST_BYTES // (4 * n_tokens * main.info.n_vocab))
    told = base.placement != Placement() or base.placement_batch != Placement()
    if n_contexts < 2 or told or main.holds or main.info.splittable or not on_processors(model):
        return main
    parts = [n_threads // n_contexts + (index < n_threads % n_contexts) for index in range(n_contexts)]
    others = [open_beside(main, model, base, options, n_tokens=n_tokens, n_threads=part) for part in parts[1:]]
    return ParallelEmbedder(main, others, parts)


def on_processors(model: Model) -> bool:
    """Whether all of the model is computed there."""
    return model.options.n_gpu_layers == 0 or not spread_over(devices.devices(), model.options.devices)


@attrs.frozen
class ContextLane:
    """Satisfies ``engine.embedding.backend.Lane``."""

    embedder: LlamaEmbedder
    n_threads: int
    most_tokens: int

    @property
    def most_texts(self) -> int:
        return self.embedder.info.n_seqs

    def compute(self, pieces: Sequence[Piece]) -> list[Vector] | None:
        """See the protocol."""
        self.embedder.use_threads(self.n_threads)
        return self.embedder.compute(pieces)


class ParallelEmbedder:
    """Satisfies ``engine.embedding.backend.EmbeddingBackend``, for models whose texts leave nothing behind.

    ``main`` takes texts of any length and all threads where no lane computes. ``parts``: threads of ``main`` as a lane,
    and of each of the others.
    """

    def __init__(self, main: LlamaEmbedder, others: Sequence[LlamaEmbedder], parts: Sequence[int]) -> None:
        assert others, "nothing to share with"
        self._main = main
        self._contexts = (main, *others)
        self._n_threads = sum(parts)
        most_tokens = min(context.most_tokens for context in others)
        self.lanes: Sequence[Lane] = [
            ContextLane(context, part, most_tokens) for context, part in zip(self._contexts, parts, strict=True)
        ]
        self.info = attrs.evolve(
            main.info,
            n_batch=min(BEST_SHARE, main.info.n_batch) * len(self.lanes),
            n_seqs=main.info.n_seqs * len(self.lanes),
        )

    def compute(self, pieces: Sequence[Piece]) -> list[Vector] | None:
        """See the protocol."""
        self._main.use_threads(self._n_threads)
        return self._main.compute(pieces)

    def warmup(self) -> None:
        """See ``LlamaEmbedder.warmup``: the weights are the same for all."""
        self._main.warmup()

    def forget(self, seq: int, start: int) -> None:
        """Nothing is held from one batch to the next."""

    def abort(self) -> None:
        """See the protocol."""
        for context in self._contexts:
            context.abort()

    def clear_abort(self) -> None:
        """See the protocol."""
        for context in self._contexts:
            context.clear_abort()

    def close(self) -> None:
        """See the protocol. No lane computes any more."""
        for context in self._contexts:
            context.close()
