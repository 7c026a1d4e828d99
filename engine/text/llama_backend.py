"""llama.cpp as the engine loop's backend."""

from collections.abc import Buffer, Callable, Sequence
from time import perf_counter
from typing import Final

from engine.errors import ModelLoadError, NativeError
from engine.guidance.grammars import GuidanceGrammars
from engine.native.adapters import LoraAdapter
from engine.native.cells import CellCopier
from engine.native.context import Context
from engine.native.control_vector import load_control_vector
from engine.native.model import Model, ModelFacts, Progress
from engine.native.mtmd import Projector
from engine.native.options import AdapterOptions, ContextOptions, MediaOptions, ModelOptions
from engine.native.sampler import LlamaSampler, SamplerFactory
from engine.native.stream_cells import StreamCopier
from engine.native.vocab import LlamaVocab
from engine.text.adapters import AdapterSet
from engine.text.backend import DecodeStatus, Run
from engine.text.identity import identify
from engine.text.info import ModelInfo
from engine.text.media import MediaChunk
from engine.text.requests import SamplingParams
from engine.text.row_padding import RowPadding
from engine.text.snapshot import Identity

_STATUS: Final = {0: DecodeStatus.OK, 1: DecodeStatus.NO_ROOM, 2: DecodeStatus.ABORTED}
# From so many decodes on it is cheaper to put all of them into the batch at once.
_MANY: Final = 4

type Tune = Callable[[ModelFacts, ContextOptions], ContextOptions]


class LlamaBackend:
    """A loaded model with its context; satisfies ``engine.text.backend.Backend``."""

    def __init__(
        self,
        model_options: ModelOptions | Model,
        context_options: ContextOptions,
        *,
        tune: Tune | None = None,
        n_slots: int = 1,
        whole_context: bool = False,
        media: MediaOptions | None = None,
        progress: Progress | None = None,
        adapters: AdapterOptions | None = None,
        copies_cells: bool = False,
    ) -> None:
        """Load the model, unless it is loaded already, with its adapters, and create its context; ``close`` frees all.

        ``tune`` may change the context's options once the model is known. Each slot gets an equal share of the
        context, or with ``whole_context`` as much of it as it needs. ``copies_cells``: there are ``cells``; in a
        unified cache the last of the sequences is kept back for that, if there are more of them than slots. Raises
        ModelLoadError, which names the file and the reason.
        """
        self._model = model_options if isinstance(model_options, Model) else Model(model_options, progress)
        adapters = adapters or AdapterOptions()
        try:
            self._loras = [LoraAdapter(self._model, lora.path) for lora in adapters.loras]
            if tune is not None:
                context_options = tune(self._model.facts(), context_options)
            self._context = Context(self._model, context_options)
            self._steer(adapters)
            self.media = self._projector(media) if media is not None and media.path else None
        except BaseException:
            self._model.close()
            raise
        self._identity: Identity | None = None
        self._loaded = (self._model.options, context_options, adapters)
        self.vocab: LlamaVocab = self._model.vocab
        self.n_seqs = context_options.n_seq_max
        self.cells: CellCopier | StreamCopier | None = None
        self._spare: int | None = None  # a sequence that holds nothing between two calls
        self._padding = RowPadding()
        if copies_cells and not context_options.kv_unified:
            self.cells = StreamCopier(self._context)
        elif copies_cells and self.n_seqs > n_slots:
            self.n_seqs -= 1
            self._spare = self.n_seqs
            self.cells = CellCopier(self._context, self._spare)
        self.grammars = GuidanceGrammars(self.vocab, self._model.lib.llama_tokenize)
        self._batch = self._context.new_batch()
        self._samplers = SamplerFactory(self._context)
        self.info = self._describe(n_slots, whole_context)

    def _steer(self, adapters: AdapterOptions) -> None:
        """Apply the control vectors. Raises ModelLoadError when they do not fit, or do nothing."""
        if not adapters.control_vectors:
            return
        facts = self._model.facts()
        vector = load_control_vector(
            adapters.control_vectors, adapters.control_layers, n_layer=facts.n_layer, n_embd=facts.n_embd
        )
        before = self._context.probe()
        try:
            self._context.set_control_vector(vector)
        except NativeError as error:
            raise ModelLoadError(f"{error} to {self._model.path}") from error
        if vector.acts and self._context.probe() == before:
            raise ModelLoadError(f"control vectors do nothing to models of the architecture {facts.architecture}")

    def _projector(self, media: MediaOptions) -> Projector:
        context, model = self._context, self._model.options
        return Projector(
            self._model,
            media,
            n_threads=context.n_threads_batch,
            use_gpu=model.n_gpu_layers != 0 and model.devices != (),
            n_ubatch=context.n_ubatch,
        )

    def _describe(self, n_slots: int, whole_context: bool) -> ModelInfo:
        context = self._context
        return model_info(
            self._model,
            n_slots,
            n_ctx=context.n_ctx,
            n_ctx_slot=context.n_ctx if whole_context else context.n_ctx // n_slots,
            n_batch=context.n_batch,
            n_ubatch=context.n_ubatch,
            kv_unified=context.kv_unified,
            can_shift=context.memory.can_shift,
            swa_full=self._loaded[1].swa_full,
            loras=tuple(lora.path for lora in self._loras),
            vision=self.media is not None and self.media.vision,
            audio=self.media is not None and self.media.audio,
        )

    @property
    def identity(self) -> Identity:
        """What a saved state depends on. Any thread; reads files at the first use. Raises StorageError."""
        if self._identity is None:
            self._identity = identify(*self._loaded)
        return self._identity

    def set_adapters(self, adapters: AdapterSet) -> None:
        """Decode with these adapters, and no others, from now on. Raises NativeError."""
        self._context.set_adapters([(self._loras[adapter], scale) for adapter, scale in adapters])

    def save_state(self, seq: int) -> bytearray:
        """The cells of a sequence as bytes. Raises NativeError."""
        return self._context.memory.save_state(seq)

    def restore_state(self, seq: int, state: Buffer) -> None:
        """Fill an empty sequence with saved cells. Raises NativeError; the sequence is empty then."""
        self._context.memory.restore_state(seq, state)

    def decode(self, runs: Sequence[Run]) -> DecodeStatus:
        """Compute one batch of at most ``info.n_batch`` tokens.

        Raises ValueError for runs that do not fit the batch or the vocabulary, NativeError when the library fails.
        """
        n_single = self._fill(runs)
        if n_single < len(runs) or self._spare is None or len(runs) == self.info.n_batch:
            return _STATUS[self._context.decode(self._batch)]
        if self._padding.pads(len(runs)):
            status = self._decode_padded(self._spare)
            if status is not DecodeStatus.NO_ROOM:
                return status
            self._fill(runs)
        return self._timed(len(runs), padded=False)

    def _fill(self, runs: Sequence[Run]) -> int:
        """Put the runs into the batch; how many of the first ones have a single token."""
        self._batch.clear()
        n_single = next((index for index, run in enumerate(runs) if len(run.tokens) != 1), len(runs))
        if n_single >= _MANY:
            rows, runs = runs[:n_single], runs[n_single:]
            self._batch.add_rows(
                [run.seq for run in rows],
                [run.start for run in rows],
                [run.tokens[0] for run in rows],
                [run.logits for run in rows],
            )
        for run in runs:
            self._batch.add_run(
                run.seq, run.start, run.tokens, logits=run.logits, n_before=run.n_drafted, all_outputs=run.scored
            )
        return n_single

    def _decode_padded(self, spare: int) -> DecodeStatus:
        """Decode the batch with a row more, of which nothing stays."""
        n_rows = len(self._batch)
        self._batch.add_run(spare, 0, [0], logits=True)
        try:
            return self._timed(n_rows, padded=True)
        finally:
            self._context.memory.remove(spare, 0, None)

    def _timed(self, n_rows: int, *, padded: bool) -> DecodeStatus:
        """Decode the batch of so many rows, one of nothing not counted."""
        began = perf_counter()
        status = _STATUS[self._context.decode(self._batch)]
        if status is DecodeStatus.OK:
            self._padding.measured(n_rows, padded=padded, seconds=perf_counter() - began)
        return status

    @property
    def n_encoded(self) -> int:
        """See Backend.n_encoded."""
        return 0 if self.media is None else self.media.n_encoded

    def decode_media(self, seq: int, start: int, chunk: MediaChunk) -> DecodeStatus:
        """See Backend.decode_media. The encoding cannot be interrupted, the decoding after it can."""
        assert self.media is not None, "chunks are made by the projector"
        rows = self.media.embeddings(chunk)
        positions = self.media.positions(chunk, start)
        return _STATUS[self._context.decode_embeddings(seq, rows, positions, causal=self.media.is_causal(chunk))]

    def create_sampler(self, params: SamplingParams) -> LlamaSampler:
        """A sampler of its own for one sequence. Raises InvalidRequest when the library refuses the params."""
        return self._samplers.create(params)

    def warmup(self) -> None:
        """One run over nothing of interest, so that the first request finds weights loaded and caches filled."""
        tokens = [token for token in (self.vocab.bos, self.vocab.eos) if token is not None]
        self._context.warmup(tokens or [0])

    def copy(self, src: int, dst: int, p0: int, p1: int) -> None:
        """Let ``dst`` share the cells of ``src`` in [p0, p1), or have copies. Raises ValueError out of range."""
        self._context.memory.copy(src, dst, p0, p1)

    def remove(self, seq: int, p0: int, p1: int | None) -> None:
        """Take [p0, p1) out of the sequence. Raises NativeError when the model's memory cannot be cut there."""
        self._context.memory.remove(seq, p0, p1)

    def shift(self, seq: int, p0: int, p1: int | None, delta: int) -> None:
        """Move the positions [p0, p1) by ``delta``; only for cells that ``seq`` alone holds."""
        self._context.memory.shift(seq, p0, p1, delta)

    def span(self, seq: int) -> tuple[int, int]:
        """(first, last) position held, (-1, -1) when empty."""
        return self._context.memory.span(seq)

    def exchange(self, a: int, b: int) -> bool:
        """Let two sequences change streams. Raises NativeError: what one of them held is lost then."""
        return self._context.memory.exchange(a, b)

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
        for lora in self._loras:
            lora.close()
        self._model.close()


def model_info(
    model: Model,
    n_slots: int,
    *,
    n_ctx: int,
    n_ctx_slot: int,
    n_batch: int,
    n_ubatch: int,
    can_shift: bool,
    kv_unified: bool = True,
    swa_full: bool = False,
    loras: tuple[str, ...] = (),
    vision: bool = False,
    audio: bool = False,
    no_generation: str | None = None,
) -> ModelInfo:
    """The model's own facts with the sizes of its context."""
    facts, vocab = model.facts(), model.vocab
    return ModelInfo(
        path=model.path,
        description=facts.description,
        architecture=facts.architecture,
        vocab_type=vocab.vocab_type,
        n_vocab=vocab.n_vocab,
        n_ctx_train=facts.n_ctx_train,
        n_embd=facts.n_embd,
        n_params=facts.n_params,
        size=facts.size,
        n_ctx=n_ctx,
        n_ctx_slot=n_ctx_slot,
        n_slots=n_slots,
        n_batch=n_batch,
        n_ubatch=n_ubatch,
        kv_unified=kv_unified,
        bos=vocab.bos,
        eos=vocab.eos,
        add_bos=vocab.add_bos,
        can_shift=can_shift,
        is_recurrent=facts.is_recurrent,
        has_encoder=facts.has_encoder,
        n_swa=facts.n_swa,
        chat_template=facts.chat_template,
        tool_template=facts.tool_template,
        fim=vocab.fim,
        metadata=facts.metadata,
        loras=loras,
        # The copy of a full window has its last tokens alone: the prefixes that could be shared before would be wrong.
        can_copy_state=no_generation is None and not (facts.n_swa and swa_full),
        no_generation=no_generation,
        vision=vision,
        audio=audio,
    )
