"""Batches of texts on several contexts, each with a part of the threads.

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

# Tokens of a batch for each context: 128 cost as much each as 256, and those who come meanwhile wait half as long.
BEST_SHARE: Final = 128
# Fewer are computed by all threads together: each context reads all weights for its share.
LEAST_SHARE: Final = 8
# The longest share may be so many times the mean: in a longer one most threads would wait for the one that has it.
MOST_UNEVEN: Final = 1.5
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


class ParallelEmbedder:
    """Satisfies ``engine.embedding.backend.EmbeddingBackend``, for models whose texts leave nothing behind.

    ``main`` takes texts of any length; it computes alone, with all threads, what cannot be shared well. ``parts``:
    threads of ``main`` while it shares, and of each of the others.
    """

    def __init__(self, main: LlamaEmbedder, others: Sequence[LlamaEmbedder], parts: Sequence[int]) -> None:
        assert others, "nothing to share with"
        self._contexts = (main, *others)
        self._parts = parts
        n_contexts = len(self._contexts)
        self.info = attrs.evolve(
            main.info,
            n_batch=min(BEST_SHARE, main.info.n_batch) * n_contexts,
            n_seqs=main.info.n_seqs * n_contexts,
        )
        self._pool = ThreadPoolExecutor(len(others), "llamabox-embed", initializer=unbind)

    def compute(self, pieces: Sequence[Piece]) -> list[Vector] | None:
        """See the protocol."""
        found: dict[int, Vector] = {}
        waiting = list(range(len(pieces)))
        while waiting:
            shares, waiting = self._share(pieces, waiting)
            if not self._compute(pieces, shares, found):
                return None
        return [found[place] for place in range(len(pieces))]

    def _share(self, pieces: Sequence[Piece], waiting: list[int]) -> tuple[list[list[int]], list[int]]:
        """Places of pieces for each context, and those that must wait for the next round."""
        sizes = [len(pieces[place].tokens) for place in waiting]
        used = self._contexts if self._is_shared(sizes) else self._contexts[:1]
        shares, left = share_out(sizes, [(context.most_tokens, context.info.n_seqs) for context in used])
        assert len(left) < len(sizes), "a text is longer than a batch"
        return [[waiting[index] for index in share] for share in shares], [waiting[index] for index in left]

    def _is_shared(self, sizes: Sequence[int]) -> bool:
        n_contexts, longest, mean = len(self._contexts), max(sizes), sum(sizes) / len(self._contexts)
        fits = longest <= self._contexts[-1].most_tokens
        return fits and len(sizes) >= n_contexts and mean >= LEAST_SHARE and longest <= MOST_UNEVEN * mean

    def _compute(self, pieces: Sequence[Piece], shares: Sequence[Sequence[int]], found: dict[int, Vector]) -> bool:
        """Compute the shares side by side. False: aborted."""
        work = [
            (context, share, [Piece(seq, 0, pieces[place].tokens) for seq, place in enumerate(share)])
            for context, share in zip(self._contexts, shares, strict=False)
            if share
        ]
        (mine, *theirs) = work
        mine[0].use_threads(self._parts[0] if theirs else sum(self._parts))
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
