"""llama.cpp as the embedding worker's backend: a context of its own on a model that is loaded."""

import math
from collections.abc import Sequence

import attrs

from engine.embedding import abilities
from engine.embedding.backend import Lane, Piece
from engine.embedding.options import EmbeddingOptions
from engine.embedding.requests import EmbeddingInfo, RankFormat, Vector
from engine.errors import ModelLoadError, NativeError
from engine.native.context import Context
from engine.native.model import Model, ModelFacts
from engine.native.options import Attention, ContextOptions, Pooling
from engine.native.vocab import LlamaVocab

N_SEQS = 64  # texts of one batch; more of them would be shorter than sentences
# Measured with MiniLM, 14 tokens a text: batches of 16, 64, 128, 256, 512 tokens give 78, 104, 111, 117, 93 texts a
# second of processor time. In larger ones attention, which looks at all texts of the batch, costs more than they save.
BEST_BATCH = 256
_DONE, _ABORTED = 0, 2


class LlamaEmbedder:
    """Satisfies ``engine.embedding.backend.EmbeddingBackend``. Make one with ``open_embedder``."""

    def __init__(self, context: Context, info: EmbeddingInfo) -> None:
        self.info = info
        self.lanes: Sequence[Lane] = ()
        self._context = context
        self._batch = context.new_batch()

    def compute(self, pieces: Sequence[Piece]) -> list[Vector] | None:
        """See the protocol. Raises ValueError for pieces that do not fit the batch or the vocabulary."""
        self._batch.clear()
        ends = [
            self._batch.add_run(piece.seq, piece.start, piece.tokens, logits=True, all_outputs=True) for piece in pieces
        ]
        status = self._context.decode(self._batch)
        if status == _ABORTED:
            return None
        if status != _DONE:
            raise NativeError("the embedding context has no room for this batch")
        if self.info.pooling is not Pooling.NONE:
            return [self._context.pooled(piece.seq, self.info.n_embd) for piece in pieces]
        return [
            self._context.token_vectors(end + 1 - len(piece.tokens), len(piece.tokens), self.info.n_embd)
            for piece, end in zip(pieces, ends, strict=True)
        ]

    @property
    def holds(self) -> bool:
        """Whether a text's cells stay until they are forgotten."""
        return self._context.memory.exists

    @property
    def most_tokens(self) -> int:
        """Of one batch: at least the longest text that this context is for."""
        return self._context.n_batch

    def use_threads(self, n_threads: int) -> None:
        """Compute with so many threads from now on."""
        self._context.use_threads(n_threads)

    def warmup(self) -> None:
        """One text of nothing in particular, so that the first request finds weights loaded."""
        self.compute([Piece(0, 0, [0])])
        self.forget(0, 0)

    def forget(self, seq: int, start: int) -> None:
        """Drop what the sequence holds from position ``start`` on."""
        if self._context.memory.exists:
            self._context.memory.remove(seq, start, None)

    def abort(self) -> None:
        """Make a running compute return None soon. Any thread."""
        self._context.abort()

    def clear_abort(self) -> None:
        """Let computes run again. Any thread."""
        self._context.clear_abort()

    def close(self) -> None:
        """Free the context. Idempotent."""
        self._context.close()


def open_embedder(model: Model, base: ContextOptions, options: EmbeddingOptions) -> LlamaEmbedder:
    """The embedding side of a loaded model; ``base`` are the options of its generation context.

    Raises ModelLoadError when the model has no rank head but is to rank, or the context cannot be made.
    """
    facts = model.facts()
    if options.rerank or options.pooling is Pooling.RANK or (options.pooling is None and abilities.ranks(facts)):
        options = attrs.evolve(options, pooling=Pooling.RANK)
        if not abilities.has_rank_head(model.path):
            raise ModelLoadError(
                f"cannot rank with {model.path}: it has no rank head (tensors cls.weight or cls.output.weight); "
                "--rerank needs a reranker model, --embeddings works with this one"
            )
    causal = abilities.is_causal(facts) if options.attention is None else options.attention is Attention.CAUSAL
    if options.pooling is None and not abilities.names_pooling(facts):
        options = attrs.evolve(options, pooling=abilities.usual_pooling(causal=causal))
    splittable = causal and facts.architecture not in abilities.WHOLE_TEXT
    longest = longest_text(facts, base.n_ctx)
    context = Context(model, _context_options(facts, base, options, splittable=splittable, longest=longest))
    if splittable and not (context.causal and context.memory.exists):
        # An architecture that sees texts as a whole without saying so in its metadata.
        context.close()
        splittable = False
        context = Context(model, _context_options(facts, base, options, splittable=False, longest=longest))
    return LlamaEmbedder(context, _info(model.vocab, facts, context, base, splittable=splittable))


def open_beside(
    main: LlamaEmbedder, model: Model, base: ContextOptions, options: EmbeddingOptions, *, n_tokens: int, n_threads: int
) -> LlamaEmbedder:
    """A context beside ``main``, which holds nothing of a text, for texts of ``n_tokens``. Raises ModelLoadError."""
    options = attrs.evolve(options, pooling=main.info.pooling)
    base = attrs.evolve(base, n_threads=n_threads, n_threads_batch=n_threads)
    wanted = _context_options(model.facts(), base, options, splittable=False, longest=n_tokens)
    context = Context(model, wanted)
    return LlamaEmbedder(context, attrs.evolve(main.info, n_seqs=context.n_seqs))


def longest_text(facts: ModelFacts, n_ctx: int) -> int:
    """Most tokens of one text: positions beyond those that the model was trained for end the process in some models."""
    sizes = [size for size in (facts.n_ctx_train, n_ctx) if size > 0]
    return min(sizes, default=ContextOptions().n_ctx)


def _context_options(
    facts: ModelFacts, base: ContextOptions, options: EmbeddingOptions, *, splittable: bool, longest: int
) -> ContextOptions:
    """A batch is one ubatch: a text that the library splits over two would get a wrong vector, or end the process.

    It has as many tokens for each sequence as for any other: reserving the graph of mean pooling ends the process else.
    """
    n_batch = _batch_size(base) if splittable else max(_batch_size(base), longest)
    n_seqs = min(N_SEQS, n_batch)
    n_batch = math.ceil(n_batch / n_seqs) * n_seqs
    return attrs.evolve(
        base,
        # A text in pieces keeps its cells while others are computed.
        n_ctx=longest + n_batch if splittable else n_batch,
        n_batch=n_batch,
        n_ubatch=n_batch,
        n_seq_max=n_seqs,
        kv_unified=True,
        embeddings=True,
        pooling=options.pooling,
        attention=options.attention,
    )


def _batch_size(base: ContextOptions) -> int:
    """Tokens of a batch of texts, unless one is longer."""
    return max(1, min(base.n_ubatch, BEST_BATCH))


def _info(
    vocab: LlamaVocab, facts: ModelFacts, context: Context, base: ContextOptions, *, splittable: bool
) -> EmbeddingInfo:
    pooling = context.pooling
    return EmbeddingInfo(
        pooling=pooling,
        n_embd=facts.n_scores if pooling is Pooling.RANK else facts.n_embd_out,
        n_vocab=vocab.n_vocab,
        max_tokens=longest_text(facts, base.n_ctx),
        n_batch=min(context.n_batch, _batch_size(base)),
        n_seqs=context.n_seqs,
        splittable=splittable,
        rank=_rank_format(vocab, facts.rerank_template),
        scores_are_shares=abilities.scores_are_shares(facts),
    )


def _rank_format(vocab: LlamaVocab, template: str | None) -> RankFormat:
    """BOS query EOS SEP document EOS, each where the tokenizer adds it; a missing EOS is the SEP token."""
    end = vocab.eos if vocab.eos is not None else vocab.sep

    def given(token: int | None, *, wanted: bool) -> tuple[int, ...]:
        return (token,) if wanted and token is not None else ()

    return RankFormat(
        template=template,
        before=given(vocab.bos, wanted=vocab.add_bos),
        between=given(end, wanted=vocab.add_eos) + given(vocab.sep, wanted=vocab.add_sep),
        after=given(end, wanted=vocab.add_eos),
    )
