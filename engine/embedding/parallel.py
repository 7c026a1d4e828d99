"""Batches of texts on several contexts, a thread each.

Threads that compute one batch together wait for each other after each of some 150 operations of a small model; those
with a batch each never do. Measured with MiniLM on two cores, see tools/bench/RESULTS.md.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final

import attrs

from engine.embedding.backend import Piece
from engine.embedding.llama_embedder import LlamaEmbedder, open_beside, open_embedder
from engine.embedding.options import EmbeddingOptions
from engine.embedding.requests import Vector
from engine.embedding.shares import share_out
from engine.native import devices
from engine.native.model import Model
from engine.native.options import ContextOptions, Placement
from engine.native.placement import spread_over
from engine.native.threads import unbind

# Fewer tokens a context are computed by all threads together: each context reads all weights for its batch.
LEAST_TOKENS: Final = 8
# Contexts beside the first; each takes a few MB.
MOST_OTHERS: Final = 15


def open_embedders(model: Model, base: ContextOptions, options: EmbeddingOptions) -> "LlamaEmbedder | ParallelEmbedder":
    """The embedding side of a loaded model: a context for each thread where that is of use, else one.

    Of use: on processors, for models that hold nothing of a text, and where nobody has said which thread runs where.
    Raises ModelLoadError as ``open_embedder`` does.
    """
    main = open_embedder(model, base, options)
    n_others = min(base.n_threads_batch - 1, MOST_OTHERS)
    told = base.placement != Placement() or base.placement_batch != Placement()
    if n_others < 1 or told or main.holds or main.info.splittable or not on_processors(model):
        return main
    others = [open_beside(main, model, base, options) for _ in range(n_others)]
    return ParallelEmbedder(main, others, base.n_threads_batch)


def on_processors(model: Model) -> bool:
    """Whether all of the model is computed there."""
    return model.options.n_gpu_layers == 0 or not spread_over(devices.devices(), model.options.devices)


class ParallelEmbedder:
    """Satisfies ``engine.embedding.backend.EmbeddingBackend``, for models whose texts leave nothing behind.

    ``main`` takes texts of any length; it computes alone, with all ``n_threads`` threads, what is too little to share.
    ``others`` have a thread each, one context for each thread but the caller's.
    """

    def __init__(self, main: LlamaEmbedder, others: Sequence[LlamaEmbedder], n_threads: int) -> None:
        assert others, "nothing to share with"
        self._contexts = (main, *others)
        self._n_threads = n_threads
        infos = [context.info for context in self._contexts]
        self.info = attrs.evolve(
            main.info,
            n_batch=sum(info.n_batch for info in infos),
            n_seqs=sum(info.n_seqs for info in infos),
        )
        self._pool = ThreadPoolExecutor(len(others), "llamabox-embed", initializer=unbind)

    def compute(self, pieces: Sequence[Piece]) -> list[Vector] | None:
        """See the protocol."""
        found: dict[int, Vector] = {}
        waiting = list(range(len(pieces)))
        while waiting:
            shares, left = self._share(pieces, waiting)
            if not self._compute(pieces, shares, found):
                return None
            waiting = left
        return [found[place] for place in range(len(pieces))]

    def _share(self, pieces: Sequence[Piece], waiting: list[int]) -> tuple[list[list[int]], list[int]]:
        """Places of pieces for each context, and those that must wait for the next round."""
        sizes = [len(pieces[place].tokens) for place in waiting]
        together = len(sizes) >= len(self._contexts) and sum(sizes) >= LEAST_TOKENS * len(self._contexts)
        used = self._contexts if together else self._contexts[:1]
        shares, left = share_out(sizes, [(context.most_tokens, context.info.n_seqs) for context in used])
        assert len(left) < len(sizes), "a text is longer than a batch"
        return [[waiting[index] for index in share] for share in shares], [waiting[index] for index in left]

    def _compute(self, pieces: Sequence[Piece], shares: Sequence[Sequence[int]], found: dict[int, Vector]) -> bool:
        """Compute the shares side by side. False: aborted."""
        work = [
            (context, share, [Piece(seq, 0, pieces[place].tokens) for seq, place in enumerate(share)])
            for context, share in zip(self._contexts, shares, strict=False)
            if share
        ]
        (mine, *theirs) = work
        mine[0].use_threads(1 if theirs else self._n_threads)
        running = [self._pool.submit(context.compute, batch) for context, _, batch in theirs]
        try:
            results = [mine[0].compute(mine[2])]
        finally:
            wait(running)  # also when the own share failed: nobody may use a context that computes
        results += [future.result() for future in running]
        for (_, share, _), vectors in zip(work, results, strict=True):
            if vectors is None:
                return False
            found.update(zip(share, vectors, strict=True))
        return True

    def warmup(self) -> None:
        """See ``LlamaEmbedder.warmup``: the weights are the same for all."""
        self._contexts[0].warmup()

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
        """See the protocol."""
        self._pool.shutdown()
        for context in self._contexts:
            context.close()
