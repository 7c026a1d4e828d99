"""A context: the KV cache, decoding, the logits. One thread uses it, except where said otherwise.

One file, though a long one: it is all that is asked of one native object, most of it a line or two a call.
"""

import ctypes
import threading
from collections.abc import Buffer, Sequence
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

from engine.errors import ModelLoadError, NativeError
from engine.native.adapters import LoraAdapter
from engine.native.batch import Batch, EmbeddingBatch
from engine.native.control_vector import ControlVector
from engine.native.log import explain, native_log
from engine.native.model import Model, ModelFacts
from engine.native.options import Attention, CacheType, ContextOptions, FlashAttention, Pooling
from engine.native.seq_state import from_streams, parse, to_streams
from engine.native.threads import ThreadPools

_CACHE_TYPES: Final = {
    CacheType.F32: "GGML_TYPE_F32",
    CacheType.F16: "GGML_TYPE_F16",
    CacheType.BF16: "GGML_TYPE_BF16",
    CacheType.Q8_0: "GGML_TYPE_Q8_0",
    CacheType.Q4_0: "GGML_TYPE_Q4_0",
    CacheType.Q4_1: "GGML_TYPE_Q4_1",
    CacheType.IQ4_NL: "GGML_TYPE_IQ4_NL",
    CacheType.Q5_0: "GGML_TYPE_Q5_0",
    CacheType.Q5_1: "GGML_TYPE_Q5_1",
}
_FLASH_ATTENTION: Final = {FlashAttention.AUTO: -1, FlashAttention.OFF: 0, FlashAttention.ON: 1}
_ROPE_SCALING: Final = {None: -1, "none": 0, "linear": 1, "yarn": 2}
_POOLING: Final = {Pooling.NONE: 0, Pooling.MEAN: 1, Pooling.CLS: 2, Pooling.LAST: 3, Pooling.RANK: 4}
_ATTENTION: Final = {None: -1, Attention.CAUSAL: 0, Attention.NON_CAUSAL: 1}
_MROPE: Final = (8, 40)  # llama_rope_type: M-RoPE and its interleaved form, with four positions for an embedding
_END: Final = -1  # the library's "to the end"
MOST_SEQUENCES: Final = 256  # the library's numbers


def most_sequences(facts: ModelFacts, *, swa_full: bool) -> int:
    """How many sequences a context of the model can have: half as many where each takes two numbers (see Context)."""
    return MOST_SEQUENCES // 2 if facts.n_swa and swa_full else MOST_SEQUENCES


class AbortFlag:
    """Stops a running decode from any thread.

    The library polls its callback hundreds of times a token, so the callback is libc's ``strlen`` on a buffer of two
    bytes: no Python code runs, and the length is non-zero, which means abort, when the first byte is.
    """

    def __init__(self, lib: Any, context: Any) -> None:
        self._lib, self._context = lib, context
        self._buffer = ctypes.create_string_buffer(2)
        self._callback = ctypes.cast(ctypes.CDLL(None).strlen, lib.ggml_abort_callback)
        self.attach()

    def attach(self) -> None:
        """Have decodes look at it, as they do from the beginning."""
        self._lib.llama_set_abort_callback(self._context, self._callback, ctypes.addressof(self._buffer))

    def detach(self) -> None:
        """Have decodes run to their end."""
        self._lib.llama_set_abort_callback(self._context, self._lib.ggml_abort_callback(), None)

    def set(self) -> None:
        """Make the running decode, and those after it, stop."""
        self._buffer[0] = b"\1"

    def clear(self) -> None:
        """Let decodes run again."""
        self._buffer[0] = b"\0"


class Context:
    """One llama_context. Sizes are those that the library chose, which may differ from the ones asked for.

    Where a model has a sliding window the library takes cells that no next token of their sequence sees for free, in a
    cache of full size too, unless they are held by two: there each sequence has a second number that holds the same.
    """

    def __init__(self, model: Model, options: ContextOptions) -> None:
        """Create it. Raises ModelLoadError with the library's reason, e.g. when the memory does not suffice."""
        if model.closed:
            raise ModelLoadError(f"{model.path} has been closed")
        self._lib = lib = model.lib
        self.model = model
        facts = model.facts()
        is_shared = options.kv_unified and not options.embeddings and not facts.is_recurrent
        self._has_twins = options.swa_full and is_shared and facts.n_swa > 0
        n_numbers = 2 if self._has_twins else 1
        params = _params(lib, attrs.evolve(options, n_seq_max=n_numbers * options.n_seq_max), model.path)
        with native_log.collect_errors() as errors:
            handle = lib.llama_init_from_model(model.handle, params)
        if not handle:
            raise ModelLoadError(f"cannot create a context for {model.path}: {explain(errors)}")
        self.handle: Any = handle
        self._memory = lib.llama_get_memory(handle)
        self.n_ctx: int = lib.llama_n_ctx(handle)
        self.n_ctx_seq: int = lib.llama_n_ctx_seq(handle)
        self.n_batch: int = lib.llama_n_batch(handle)
        self.n_ubatch: int = lib.llama_n_ubatch(handle)
        self.n_seqs = options.n_seq_max
        self.n_threads_batch = options.n_threads_batch
        self.kv_unified = options.kv_unified
        self._changes = [0] * options.n_seq_max
        self._is_moving = False  # the next decode moves positions
        # The library's numbers of each sequence.
        self._streams = np.arange(n_numbers * self.n_seqs, dtype=np.int32).reshape(n_numbers, -1).T.copy()
        self.can_shift = bool(self._memory) and bool(lib.llama_memory_can_shift(self._memory))
        self._n_vocab = model.vocab.n_vocab
        self._n_embd_input: int = lib.llama_model_n_embd_inp(model.handle)
        self._n_pos = 4 if lib.llama_model_rope_type(model.handle) in _MROPE else 1
        self._row_type = ctypes.c_float * self._n_vocab
        self._logits_lock = threading.Lock()
        self._abort = AbortFlag(lib, handle)
        self._pools = ThreadPools(options)
        try:
            self._pools.attach(lib, handle)
        except BaseException:
            lib.llama_free(handle)
            raise
        model.register(self)

    def use_threads(self, n_threads: int) -> None:
        """Compute with so many threads from now on, those of a batch included."""
        self._lib.llama_set_n_threads(self._open(), n_threads, n_threads)

    def new_batch(self) -> Batch:
        """An empty batch of this context's size."""
        return Batch(self._lib, self.n_batch, self._streams)

    def decode(self, batch: Batch) -> int:
        """Compute a batch: 0 done, 1 no room in the KV cache (nothing changed), 2 aborted (whole ubatches remain).

        Raises ValueError for a batch that is empty, too large or has tokens outside the vocabulary, NativeError when
        the library fails.
        """
        handle = self._open()
        if not 0 < len(batch) <= self.n_batch:
            raise ValueError(f"a decode takes 1 to {self.n_batch} tokens, not {len(batch)}")
        if batch.lowest_token() < 0 or batch.highest_token() >= self._n_vocab:
            raise ValueError(f"a token is not in the vocabulary (0 to {self._n_vocab - 1})")
        self._pools.before(len(batch))
        with native_log.collect_errors() as errors:
            status = self._compute(handle, batch.native)
        if status not in (0, 1):
            self._trim_twins()
        if status not in (0, 1, 2):
            raise NativeError(f"llama_decode failed with {status}: {explain(errors)}")
        return status

    def decode_embeddings(
        self, seq: int, rows: NDArray[np.float32], positions: NDArray[np.int32], *, causal: bool
    ) -> int:
        """Compute embeddings in place of tokens: float32[n, n_embd] at int32[1, n] or, with M-RoPE, int32[4, n].

        All or nothing: 0 done, 1 no room, 2 aborted; what was computed before one of the latter is removed again, and
        all that the sequence held where that cannot be cut off. With ``causal`` false each row sees all others. Raises
        ValueError for shapes that do not fit, NativeError when the library fails.
        """
        handle = self._open()
        self._check_seq(seq)
        most = self.n_batch if causal else self.n_ubatch
        n = len(rows)
        if rows.shape != (n, self._n_embd_input) or n < 1 or (n > most and not causal):
            raise ValueError(f"embeddings of the shape {rows.shape}: {self._n_embd_input} columns, 1 to {most} rows")
        if positions.shape[1:] != (n,) or len(positions) != self._n_pos or positions.min() < 0:
            raise ValueError(f"positions of the shape {positions.shape} for {n} embeddings")
        status = 0
        with native_log.collect_errors() as errors:
            self._lib.llama_set_causal_attn(handle, causal)
            try:
                for first in range(0, n, most):
                    part = EmbeddingBatch(
                        self._lib, self._streams[seq], rows[first : first + most], positions[:, first : first + most]
                    )
                    self._pools.before(min(most, n - first))
                    status = self._compute(handle, part.native)
                    if status != 0:
                        break
            finally:
                self._lib.llama_set_causal_attn(handle, True)
        if status != 0:
            # Of the four rows of M-RoPE the first one counts for the cells; one that is not used is all zeros.
            try:
                self.remove(seq, int(positions[0].min()), None)
            except NativeError:  # a recurrent state has passed that position
                self.remove(seq, 0, None)
        if status not in (0, 1, 2):
            raise NativeError(f"llama_decode failed with {status}: {explain(errors)}")
        return status

    def _compute(self, handle: Any, batch: Any) -> int:
        """A decode that has positions to move first is not stopped: what was moved by then would be moved again."""
        if not self._is_moving:
            return int(self._lib.llama_decode(handle, batch))
        self._abort.detach()
        try:
            status = int(self._lib.llama_decode(handle, batch))
        finally:
            self._abort.attach()
        self._is_moving = status != 0
        return status

    def warmup(self, tokens: list[int]) -> None:
        """Run ``tokens`` once so that weights are loaded and caches filled; the KV cache is empty afterwards."""
        handle = self._open()
        self._lib.llama_set_warmup(handle, True)
        try:
            batch = self.new_batch()
            batch.add_run(0, 0, tokens[: self.n_batch], logits=True)
            self.decode(batch)
        finally:
            self.clear_memory()
            self._lib.llama_synchronize(handle)
            self._lib.llama_set_warmup(handle, False)

    def probe(self) -> bytes:
        """The logits behind the vocabulary's first token, for comparison; the KV cache is empty afterwards."""
        batch = self.new_batch()
        batch.add_run(0, 0, [0], logits=True)
        try:
            if self.decode(batch):
                raise NativeError("one token finds no room in the KV cache")
            return self.logits_row(0).tobytes()
        finally:
            self.clear_memory()

    def logits_row(self, index: int) -> NDArray[np.float32]:
        """Logits of batch index ``index`` of the last decode, float32[n_vocab].

        A view of the library's memory, which the next decode overwrites; who draws from it may change it meanwhile, and
        must restore it. May be called by several threads at once between two decodes. Raises ValueError when no logits
        were asked for there.
        """
        handle = self._open()
        # The first reader after a decode makes the library sort its rows, and that must not run twice at once.
        with self._logits_lock:
            pointer = self._lib.llama_get_logits_ith(handle, index) if index >= 0 else None
        if not pointer:
            raise ValueError(f"batch index {index} has no logits")
        return np.frombuffer(self._row_type.from_address(ctypes.addressof(pointer.contents)), np.float32)

    @property
    def has_memory(self) -> bool:
        """Whether there is a KV cache or a recurrent state; models that only embed have none."""
        return bool(self._memory)

    @property
    def causal(self) -> bool:
        """Whether tokens see only the ones before them."""
        return bool(self._lib.llama_get_causal_attn(self._open()))

    @property
    def pooling(self) -> Pooling:
        """What an embedding context does with the vectors of a sequence's tokens."""
        found = self._lib.llama_pooling_type(self._open())
        return next(pooling for pooling, number in _POOLING.items() if number == found)

    def pooled(self, seq: int, size: int) -> NDArray[np.float32]:
        """A copy of the vector of sequence ``seq`` in the last decode, float32[size]; ``size`` is the library's own.

        Raises NativeError when there is none.
        """
        return self._copy(self._lib.llama_get_embeddings_seq(self._open(), seq), size, f"sequence {seq}")

    def token_vectors(self, first: int, count: int, size: int) -> NDArray[np.float32]:
        """A copy of the vectors of ``count`` tokens from batch index ``first`` on, float32[count, size].

        For contexts that pool nothing. Raises NativeError where the last decode has none.
        """
        handle, read = self._open(), self._lib.llama_get_embeddings_ith
        rows = [self._copy(read(handle, i), size, f"batch index {i}") for i in range(first, first + count)]
        return np.stack(rows)

    def _copy(self, pointer: Any, size: int, what: str) -> NDArray[np.float32]:
        if not pointer:
            raise NativeError(f"{what} has no embedding")
        row = (ctypes.c_float * size).from_address(ctypes.addressof(pointer.contents))
        return np.frombuffer(row, np.float32).copy()

    def clear_memory(self) -> None:
        """Empty the KV cache."""
        self._open()
        self._lib.llama_memory_clear(self._memory, True)

    def copy(self, src: int, dst: int, p0: int, p1: int) -> None:
        """Let ``dst`` share the cells of ``src`` at positions [p0, p1).

        When the cache is not unified the cells are copied, and replace what ``dst`` held: a sequence's beginning only.
        That goes by way of a saved state, at once. The library's own copy is of a stream's whole buffer, and made with
        the next decode: what is saved or restored before that would be wrong.
        Raises ValueError out of range or for another part, NativeError when the library fails.
        """
        self._check_range(src, p0, p1)
        self._check_seq(dst)
        if src == dst or p0 == p1:
            return
        self._changes[dst] += 1
        if self.kv_unified:
            for number in self._numbers(dst):
                self._lib.llama_memory_seq_cp(self._memory, self._stream(src), number, p0, p1)
            return
        if p0:
            raise ValueError("only the beginning of a sequence can be copied between streams")
        try:
            beginning = parse(self.save_state(src)).cut(p0, p1).to_bytes()
        except ValueError as error:
            raise NativeError(f"sequence {src} cannot be copied: {error}") from error
        self.restore_state(dst, beginning)

    def remove(self, seq: int, p0: int, p1: int | None) -> None:
        """Take positions [p0, p1) out of ``seq``. Raises NativeError when the model's memory cannot be cut there."""
        self._check_range(seq, p0, p1)
        if p0 == p1:
            return
        self._changes[seq] += 1
        end = _END if p1 is None else p1
        if not all(self._lib.llama_memory_seq_rm(self._memory, number, p0, end) for number in self._numbers(seq)):
            raise NativeError(f"positions {p0} to {p1} of sequence {seq} cannot be removed from this model's memory")

    def n_changes(self, seq: int) -> int:
        """How often something of ``seq`` was taken out, moved or replaced so far."""
        return self._changes[seq]

    def shift(self, seq: int, p0: int, p1: int | None, delta: int) -> None:
        """Move positions [p0, p1) of ``seq`` by ``delta``. Cells shared with other sequences move for them too.

        Raises ValueError when positions would become negative, NativeError when the model cannot shift.
        """
        self._check_range(seq, p0, p1)
        if not self.can_shift:
            raise NativeError("this model's positions cannot be shifted")
        first = max(p0, self.span(seq)[0])
        if first + delta < 0:
            raise ValueError(f"position {first} cannot move by {delta}")
        if p0 == p1 or delta == 0:
            return
        self._changes[seq] += 1
        self._is_moving = True
        self._lib.llama_memory_seq_add(self._memory, self._stream(seq), p0, _END if p1 is None else p1, delta)

    def span(self, seq: int) -> tuple[int, int]:
        """(first, last) position that ``seq`` holds, (-1, -1) when empty."""
        self._open()
        self._check_seq(seq)
        stream = self._stream(seq)
        return (
            self._lib.llama_memory_seq_pos_min(self._memory, stream),
            self._lib.llama_memory_seq_pos_max(self._memory, stream),
        )

    def exchange(self, a: int, b: int) -> bool:
        """Let two sequences change streams, in a cache with a stream for each; each keeps what it holds.

        The library computes tokens at once whose streams follow on each other. Returns whether it was done: not
        between ``shift`` and the next decode, as a state would have new positions and contents for the old ones. Raises
        NativeError when the library fails: what one of the two held is lost then.
        """
        if self._is_moving:
            return False
        states = [None if self.span(seq) == (-1, -1) else self.save_state(seq) for seq in (a, b)]
        self._streams[[a, b]] = self._streams[[b, a]]
        for seq, state in zip((a, b), states, strict=True):
            if state is None:
                self.remove(seq, 0, None)
            else:
                self.restore_state(seq, state)
        return True

    def set_adapters(self, adapters: Sequence[tuple[LoraAdapter, float]]) -> None:
        """Compute with these adapters and scales from now on, and with no others. Raises NativeError."""
        handle = self._open()
        if any(adapter.handle is None for adapter, _ in adapters):
            raise NativeError("an adapter has been closed")
        count = len(adapters)
        handles = (self._lib.llama_adapter_lora_p_ctypes * count)(*(adapter.handle for adapter, _ in adapters))
        scales = (ctypes.c_float * count)(*(scale for _, scale in adapters))
        if self._lib.llama_set_adapters_lora(handle, handles, count, scales):
            raise NativeError("the adapters cannot be applied")

    def set_control_vector(self, vector: ControlVector) -> None:
        """Add the vector to the hidden states of all decodes from now on. Raises NativeError."""
        data = np.ascontiguousarray(vector.directions, np.float32)
        n_embd = data.shape[1]
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        if self._lib.llama_set_adapter_cvec(self._open(), pointer, data.size, n_embd, vector.first, vector.last):
            raise NativeError("the control vector cannot be applied")

    def save_state(self, seq: int) -> bytearray:
        """The cells of a sequence as bytes, which ``restore_state`` takes, of either kind of cache.

        Raises NativeError.
        """
        self._check_range(seq, 0, None)
        stream = self._stream(seq)
        size: int = self._lib.llama_state_seq_get_size(self.handle, stream)
        state = bytearray(size)
        buffer = (ctypes.c_uint8 * size).from_buffer(state)
        if self._lib.llama_state_seq_get_data(self.handle, buffer, size, stream) != size:
            raise NativeError(f"the state of sequence {seq} cannot be copied")
        if self.kv_unified or self.n_seqs == 1:
            return state
        del buffer  # it would forbid to change the size
        try:
            return from_streams(state, stream, self.n_seqs)
        except ValueError as error:
            raise NativeError(f"the state of sequence {seq} cannot be copied: {error}") from error

    def restore_state(self, seq: int, state: Buffer) -> None:
        """Replace the cells of a sequence by saved ones, which must be just as ``save_state`` gave them.

        Raises NativeError when they are of another configuration or there is no room; ``seq`` is empty then.
        """
        self._check_range(seq, 0, None)
        self._changes[seq] += 1
        if not self.kv_unified and self.n_seqs > 1:
            state = to_streams(state, self.n_seqs)
        _, *twins = self._numbers(seq)
        if twins:
            self.remove(seq, 0, None)
        view = np.frombuffer(state, np.uint8)
        buffer = view.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        with native_log.collect_errors() as errors:
            taken: int = self._lib.llama_state_seq_set_data(self.handle, buffer, view.size, self._stream(seq))
        if taken != view.size:
            self.remove(seq, 0, None)
            raise NativeError(f"a saved state cannot be restored: {explain(errors)}")
        for twin in twins:
            self._lib.llama_memory_seq_cp(self._memory, self._stream(seq), twin, 0, _END)

    def abort(self) -> None:
        """Make a running decode stop soon with status 2. Any thread; stays set until ``clear_abort``."""
        self._abort.set()

    def clear_abort(self) -> None:
        """Let decodes run again. Any thread."""
        self._abort.clear()

    def close(self) -> None:
        """Free the context. Idempotent."""
        if self.handle is None:
            return
        handle, self.handle, self._memory = self.handle, None, None
        self._lib.llama_free(handle)
        self._pools.close()

    def _open(self) -> Any:
        if self.handle is None:
            raise NativeError("the context has been closed")
        return self.handle

    def _stream(self, seq: int) -> int:
        return int(self._streams[seq, 0])

    def _numbers(self, seq: int) -> list[int]:
        numbers: list[int] = self._streams[seq].tolist()
        return numbers

    def _check_seq(self, seq: int) -> None:
        if not 0 <= seq < self.n_seqs:
            raise ValueError(f"sequence {seq} is out of range (0 to {self.n_seqs - 1})")

    def _check_range(self, seq: int, p0: int, p1: int | None) -> None:
        self._open()
        self._check_seq(seq)
        if p0 < 0 or (p1 is not None and p1 < p0):
            raise ValueError(f"[{p0}, {p1}) is no range of positions")

    def _trim_twins(self) -> None:
        """After a decode that failed: the library takes what it has not computed out of one of two numbers only."""
        if not self._has_twins:
            return
        for numbers in self._streams.tolist():
            end = min(self._lib.llama_memory_seq_pos_max(self._memory, number) for number in numbers) + 1
            for number in numbers:
                self._lib.llama_memory_seq_rm(self._memory, number, end, _END)


def _params(lib: Any, options: ContextOptions, path: str) -> Any:
    most = lib.llama_max_parallel_sequences()
    if not 1 <= options.n_seq_max <= most:
        raise ModelLoadError(f"cannot create a context for {path}: {options.n_seq_max} sequences, 1 to {most} fit")
    if options.rope_scaling not in _ROPE_SCALING:
        raise ModelLoadError(f"cannot create a context for {path}: unknown RoPE scaling {options.rope_scaling}")
    if min(options.n_ctx, options.n_batch - 1, options.n_ubatch - 1) < 0:
        raise ModelLoadError(f"cannot create a context for {path}: context and batch sizes must be positive")
    params = lib.llama_context_default_params()
    params.n_ctx = options.n_ctx
    params.n_batch = options.n_batch
    params.n_ubatch = options.n_ubatch
    params.n_seq_max = options.n_seq_max
    # The library reserves an output for each sequence, and aborts where that is more than its default, a batch.
    params.n_outputs_max = max(options.n_batch, options.n_seq_max)
    params.n_threads = options.n_threads
    params.n_threads_batch = options.n_threads_batch
    params.flash_attn_type = _FLASH_ATTENTION[options.flash_attention]
    params.type_k = getattr(lib, _CACHE_TYPES[options.cache_type_k])
    params.type_v = getattr(lib, _CACHE_TYPES[options.cache_type_v])
    params.offload_kqv = options.offload_kqv
    params.kv_unified = options.kv_unified
    params.swa_full = options.swa_full
    params.no_perf = True
    params.rope_scaling_type = _ROPE_SCALING[options.rope_scaling]
    params.rope_freq_base = options.rope_freq_base or 0.0  # 0: the model's
    params.rope_freq_scale = options.rope_freq_scale or 0.0
    params.yarn_orig_ctx = options.yarn_orig_ctx
    params.yarn_ext_factor = options.yarn_ext_factor
    params.yarn_attn_factor = options.yarn_attn_factor
    params.yarn_beta_fast = options.yarn_beta_fast
    params.yarn_beta_slow = options.yarn_beta_slow
    params.embeddings = options.embeddings
    params.pooling_type = -1 if options.pooling is None else _POOLING[options.pooling]
    params.attention_type = _ATTENTION[options.attention]
    return params
