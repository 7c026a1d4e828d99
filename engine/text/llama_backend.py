"""llama.cpp as the engine loop's backend."""

from collections.abc import Callable, Sequence
from typing import Final

from engine.guidance.grammars import GuidanceGrammars
from engine.native.context import Context
from engine.native.model import Model, ModelFacts, Progress
from engine.native.options import ContextOptions, ModelOptions
from engine.native.sampler import LlamaSampler, SamplerFactory
from engine.native.vocab import LlamaVocab
from engine.text.backend import DecodeStatus, Run
from engine.text.info import ModelInfo
from engine.text.requests import SamplingParams

_STATUS: Final = {0: DecodeStatus.OK, 1: DecodeStatus.NO_ROOM, 2: DecodeStatus.ABORTED}


type Tune = Callable[[ModelFacts, ContextOptions], ContextOptions]


class LlamaBackend:
    """A loaded model with its context; satisfies ``engine.text.backend.Backend``."""

    def __init__(
        self,
        model_options: ModelOptions,
        context_options: ContextOptions,
        *,
        tune: Tune | None = None,
        n_slots: int = 1,
        whole_context: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Load the model and create its context. ``tune`` may change the context's options once the model is known.

        Each slot gets an equal share of the context, or with ``whole_context`` as much of it as it needs.
        Raises ModelLoadError, which names the file and the reason.
        """
        self._model = Model(model_options, progress)
        try:
            if tune is not None:
                context_options = tune(self._model.facts(), context_options)
            self._context = Context(self._model, context_options)
        except BaseException:
            self._model.close()
            raise
        self.vocab: LlamaVocab = self._model.vocab
        self.n_seqs = context_options.n_seq_max
        self.grammars = GuidanceGrammars(self.vocab, self._model.lib.llama_tokenize)
        self._batch = self._context.new_batch()
        self._samplers = SamplerFactory(self._context)
        self.info = self._describe(n_slots, whole_context)

    def _describe(self, n_slots: int, whole_context: bool) -> ModelInfo:
        facts, context, vocab = self._model.facts(), self._context, self.vocab
        share = context.n_ctx if whole_context else context.n_ctx // n_slots
        return ModelInfo(
            path=self._model.path,
            description=facts.description,
            architecture=facts.architecture,
            vocab_type=vocab.vocab_type,
            n_vocab=vocab.n_vocab,
            n_ctx_train=facts.n_ctx_train,
            n_embd=facts.n_embd,
            n_params=facts.n_params,
            size=facts.size,
            n_ctx=context.n_ctx,
            n_ctx_slot=share,
            n_slots=n_slots,
            n_batch=context.n_batch,
            n_ubatch=context.n_ubatch,
            bos=vocab.bos,
            eos=vocab.eos,
            add_bos=vocab.add_bos,
            can_shift=context.can_shift,
            is_recurrent=facts.is_recurrent,
            has_encoder=facts.has_encoder,
            n_swa=facts.n_swa,
            chat_template=facts.chat_template,
            tool_template=facts.tool_template,
            fim=vocab.fim,
            metadata=facts.metadata,
        )

    def decode(self, runs: Sequence[Run]) -> DecodeStatus:
        """Compute one batch of at most ``info.n_batch`` tokens.

        Raises ValueError for runs that do not fit the batch or the vocabulary, NativeError when the library fails.
        """
        self._batch.clear()
        for run in runs:
            self._batch.add_run(run.seq, run.start, run.tokens, logits=run.logits)
        return _STATUS[self._context.decode(self._batch)]

    def create_sampler(self, params: SamplingParams) -> LlamaSampler:
        """A sampler of its own for one sequence. Raises InvalidRequest when the library refuses the params."""
        return self._samplers.create(params)

    def warmup(self) -> None:
        """One run over nothing of interest, so that the first request finds weights loaded and caches filled."""
        tokens = [token for token in (self.vocab.bos, self.vocab.eos) if token is not None]
        self._context.warmup(tokens or [0])

    def copy(self, src: int, dst: int, p0: int, p1: int) -> None:
        """Let ``dst`` share the cells of ``src`` in [p0, p1). Raises ValueError out of range."""
        self._context.copy(src, dst, p0, p1)

    def remove(self, seq: int, p0: int, p1: int | None) -> None:
        """Take [p0, p1) out of the sequence. Raises NativeError when the model's memory cannot be cut there."""
        self._context.remove(seq, p0, p1)

    def shift(self, seq: int, p0: int, p1: int | None, delta: int) -> None:
        """Move the positions [p0, p1) by ``delta``; only for cells that ``seq`` alone holds."""
        self._context.shift(seq, p0, p1, delta)

    def span(self, seq: int) -> tuple[int, int]:
        """(first, last) position held, (-1, -1) when empty."""
        return self._context.span(seq)

    def abort(self) -> None:
        """Make a running decode return ABORTED soon. Any thread; stays set until ``clear_abort``."""
        self._context.abort()

    def clear_abort(self) -> None:
        """Let decodes run again. Any thread."""
        self._context.clear_abort()

    def close(self) -> None:
        """Free everything. Idempotent."""
        self.grammars.close()
        self._samplers.close()
        self._context.close()
        self._model.close()
