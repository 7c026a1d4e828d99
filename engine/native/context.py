"""A context: decoding, and what comes out of it. One thread uses it, except where said otherwise."""

import ctypes
import threading
from collections.abc import Sequence
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

from engine.errors import ModelLoadError, NativeError
from engine.native.adapters import LoraAdapter
from engine.native.batch import Batch, EmbeddingBatch
from engine.native.context_params import POOLING, native_params
from engine.native.control_vector import ControlVector
from engine.native.log import explain, native_log
from engine.native.memory import ContextMemory
from engine.native.model import Model
from engine.native.options import ContextOptions, Pooling
from engine.native.threads import ThreadPools

_MROPE: Final = (8, 40)  # llama_rope_type: M-RoPE and its interleaved form, with four positions for an embedding


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

    ``memory``: what it has computed of each sequence.
    """

    def __init__(self, model: Model, options: ContextOptions) -> None:
        """Create it. Raises ModelLoadError with the library's reason, e.g. when the memory does not suffice."""
        if model.closed:
            raise ModelLoadError(f"{model.path} has been closed")
        self._lib = lib = model.lib
        self.model = model
        facts = model.facts()
        is_shared = options.kv_unified and not options.embeddings and not facts.is_recurrent
        n_numbers = 2 if options.swa_full and is_shared and facts.n_swa > 0 else 1  # see ContextMemory
        params = native_params(lib, attrs.evolve(options, n_seq_max=n_numbers * options.n_seq_max), model.path)
        with native_log.collect_errors() as errors:
            handle = lib.llama_init_from_model(model.handle, params)
        if not handle:
            raise ModelLoadError(f"cannot create a context for {model.path}: {explain(errors)}")
        self.handle: Any = handle
        self.memory = ContextMemory(
            lib, handle, n_seqs=options.n_seq_max, n_numbers=n_numbers, unified=options.kv_unified
        )
        self.n_ctx: int = lib.llama_n_ctx(handle)
        self.n_ctx_seq: int = lib.llama_n_ctx_seq(handle)
        self.n_batch: int = lib.llama_n_batch(handle)
        self.n_ubatch: int = lib.llama_n_ubatch(handle)
        self.n_seqs = options.n_seq_max
        self.n_threads_batch = options.n_threads_batch
        self.kv_unified = options.kv_unified
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
        return Batch(self._lib, self.n_batch, self.memory.numbers)

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
            self.memory.trim_twins()
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
        self.memory.check_seq(seq)
        most = self.n_batch if causal else self.n_ubatch
        n = len(rows)
        if rows.shape != (n, self._n_embd_input) or n < 1 or (n > most and not causal):
            raise ValueError(f"embeddings of the shape {rows.shape}: {self._n_embd_input} columns, 1 to {most} rows")
        if positions.shape[1:] != (n,) or len(positions) != self._n_pos or positions.min() < 0:
            raise ValueError(f"positions of the shape {positions.shape} for {n} embeddings")
        status, numbers = 0, self.memory.numbers[seq]
        with native_log.collect_errors() as errors:
            self._lib.llama_set_causal_attn(handle, causal)
            try:
                for first in range(0, n, most):
                    part = EmbeddingBatch(
                        self._lib, numbers, rows[first : first + most], positions[:, first : first + most]
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
                self.memory.remove(seq, int(positions[0].min()), None)
            except NativeError:  # a recurrent state has passed that position
                self.memory.remove(seq, 0, None)
        if status not in (0, 1, 2):
            raise NativeError(f"llama_decode failed with {status}: {explain(errors)}")
        return status

    def _compute(self, handle: Any, batch: Any) -> int:
        """A decode that has positions to move first is not stopped: what was moved by then would be moved again."""
        if not self.memory.is_moving:
            return int(self._lib.llama_decode(handle, batch))
        self._abort.detach()
        try:
            status = int(self._lib.llama_decode(handle, batch))
        finally:
            self._abort.attach()
        self.memory.is_moving = status != 0
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
            self.memory.clear()
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
            self.memory.clear()

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
    def causal(self) -> bool:
        """Whether tokens see only the ones before them."""
        return bool(self._lib.llama_get_causal_attn(self._open()))

    @property
    def pooling(self) -> Pooling:
        """What an embedding context does with the vectors of a sequence's tokens."""
        found = self._lib.llama_pooling_type(self._open())
        return next(pooling for pooling, number in POOLING.items() if number == found)

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
        handle, self.handle = self.handle, None
        self.memory.close()
        self._lib.llama_free(handle)
        self._pools.close()

    def _open(self) -> Any:
        if self.handle is None:
            raise NativeError("the context has been closed")
        return self.handle
