"""What a context has computed of each sequence: cells of the KV cache, or a recurrent state. One thread uses it."""

import ctypes
from collections.abc import Buffer
from typing import Any, Final

import numpy as np

from engine.errors import NativeError
from engine.native.log import explain, native_log
from engine.native.seq_state import from_streams, parse, to_streams

_END: Final = -1  # the library's "to the end"


class ContextMemory:
    """The memory of one llama_context. Positions are half-open ranges [p0, p1), p1 None: to the end.

    ``numbers``: int32[sequences, 1 or 2], the library's of each. ``exists``: whether there is a KV cache or a recurrent
    state; models that only embed have none. ``is_moving``: the next decode moves positions.

    Where a model has a sliding window the library takes cells that no next token of their sequence sees for free, in a
    cache of full size too, unless they are held by two: there each sequence has a second number that holds the same.
    """

    def __init__(self, lib: Any, context: Any, *, n_seqs: int, n_numbers: int, unified: bool) -> None:
        """Of the native ``context``; ``n_numbers``: the library's for each sequence, 1 or 2."""
        self._lib = lib
        self._context = context
        self._memory = lib.llama_get_memory(context)
        self._n_seqs = n_seqs
        self._unified = unified
        self._has_twins = n_numbers == 2
        self._changes = [0] * n_seqs
        self.numbers = np.arange(n_numbers * n_seqs, dtype=np.int32).reshape(n_numbers, -1).T.copy()
        self.exists = bool(self._memory)
        self.can_shift = self.exists and bool(lib.llama_memory_can_shift(self._memory))
        self.is_moving = False

    def clear(self) -> None:
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
        self.check_seq(dst)
        if src == dst or p0 == p1:
            return
        self._changes[dst] += 1
        if self._unified:
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
        self.is_moving = True
        self._lib.llama_memory_seq_add(self._memory, self._stream(seq), p0, _END if p1 is None else p1, delta)

    def span(self, seq: int) -> tuple[int, int]:
        """(first, last) position that ``seq`` holds, (-1, -1) when empty."""
        self._open()
        self.check_seq(seq)
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
        if self.is_moving:
            return False
        states = [None if self.span(seq) == (-1, -1) else self.save_state(seq) for seq in (a, b)]
        self.numbers[[a, b]] = self.numbers[[b, a]]
        for seq, state in zip((a, b), states, strict=True):
            if state is None:
                self.remove(seq, 0, None)
            else:
                self.restore_state(seq, state)
        return True

    def save_state(self, seq: int) -> bytearray:
        """The cells of a sequence as bytes, which ``restore_state`` takes, of either kind of cache.

        Raises NativeError.
        """
        self._check_range(seq, 0, None)
        stream = self._stream(seq)
        size: int = self._lib.llama_state_seq_get_size(self._context, stream)
        state = bytearray(size)
        buffer = (ctypes.c_uint8 * size).from_buffer(state)
        if self._lib.llama_state_seq_get_data(self._context, buffer, size, stream) != size:
            raise NativeError(f"the state of sequence {seq} cannot be copied")
        if self._unified or self._n_seqs == 1:
            return state
        del buffer  # it would forbid to change the size
        try:
            return from_streams(state, stream, self._n_seqs)
        except ValueError as error:
            raise NativeError(f"the state of sequence {seq} cannot be copied: {error}") from error

    def restore_state(self, seq: int, state: Buffer) -> None:
        """Replace the cells of a sequence by saved ones, which must be just as ``save_state`` gave them.

        Raises NativeError when they are of another configuration or there is no room; ``seq`` is empty then.
        """
        self._check_range(seq, 0, None)
        self._changes[seq] += 1
        if not self._unified and self._n_seqs > 1:
            state = to_streams(state, self._n_seqs)
        _, *twins = self._numbers(seq)
        if twins:
            self.remove(seq, 0, None)
        view = np.frombuffer(state, np.uint8)
        buffer = view.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        with native_log.collect_errors() as errors:
            taken: int = self._lib.llama_state_seq_set_data(self._context, buffer, view.size, self._stream(seq))
        if taken != view.size:
            self.remove(seq, 0, None)
            raise NativeError(f"a saved state cannot be restored: {explain(errors)}")
        for twin in twins:
            self._lib.llama_memory_seq_cp(self._memory, self._stream(seq), twin, 0, _END)

    def check_seq(self, seq: int) -> None:
        """Raise ValueError for one that does not exist."""
        if not 0 <= seq < self._n_seqs:
            raise ValueError(f"sequence {seq} is out of range (0 to {self._n_seqs - 1})")

    def trim_twins(self) -> None:
        """After a decode that failed: the library takes what it has not computed out of one of two numbers only."""
        if not self._has_twins:
            return
        for numbers in self.numbers.tolist():
            end = min(self._lib.llama_memory_seq_pos_max(self._memory, number) for number in numbers) + 1
            for number in numbers:
                self._lib.llama_memory_seq_rm(self._memory, number, end, _END)

    def close(self) -> None:
        """The context is no more."""
        self._context = self._memory = None

    def _open(self) -> None:
        if self._context is None:
            raise NativeError("the context has been closed")

    def _stream(self, seq: int) -> int:
        return int(self.numbers[seq, 0])

    def _numbers(self, seq: int) -> list[int]:
        numbers: list[int] = self.numbers[seq].tolist()
        return numbers

    def _check_range(self, seq: int, p0: int, p1: int | None) -> None:
        self._open()
        self.check_seq(seq)
        if p0 < 0 or (p1 is not None and p1 < p0):
            raise ValueError(f"[{p0}, {p1}) is no range of positions")
