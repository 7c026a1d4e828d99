"""The input of one decode, in numpy arrays that the native batch points into."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Batch:
    """At most ``capacity`` tokens, each of one sequence. Filled run by run, without a loop over tokens.

    ``native`` is the llama_batch; its pointers stay valid as long as this object lives.
    """

    def __init__(self, lib: Any, capacity: int, streams: NDArray[np.int32]) -> None:
        """``streams``: int32[sequences, 1 or more], the library's numbers of each when the batch is decoded."""
        self.capacity = capacity
        self.n_seqs, n_numbers = streams.shape
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._counts = np.full(capacity, n_numbers, np.int32)
        self._logits = np.zeros(capacity, np.int8)
        # A token's sequences are given by pointer: all point into this table.
        self._ids = streams
        self._id_addresses = (self._ids.ctypes.data + self._ids.strides[0] * np.arange(self.n_seqs)).astype(np.uintp)
        self._seqs = np.full(capacity, self._ids.ctypes.data, np.uintp)
        self._offsets = np.arange(capacity, dtype=np.int32)
        self.native = lib.llama_batch(
            n_tokens=0,
            token=_pointer(self._tokens, ctypes.c_int32),
            embd=None,
            pos=_pointer(self._positions, ctypes.c_int32),
            n_seq_id=_pointer(self._counts, ctypes.c_int32),
            seq_id=_pointer(self._seqs, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._logits, ctypes.c_int8),
        )

    def __len__(self) -> int:
        return int(self.native.n_tokens)

    @property
    def outputs(self) -> list[int]:
        """Indices of the tokens whose logits are asked for."""
        return [int(index) for index in np.flatnonzero(self._logits[: len(self)])]

    def clear(self) -> None:
        """Forget all runs."""
        self.native.n_tokens = 0

    def add_run(
        self,
        seq: int,
        start: int,
        tokens: Sequence[int] | np.ndarray[Any, Any],
        *,
        logits: bool,
        n_before: int = 0,
        all_outputs: bool = False,
    ) -> int:
        """Append ``tokens`` of ``seq`` at positions ``start`` …; ``logits`` asks for the last one's logits.

        ``n_before``: so many tokens before the last one have theirs asked for as well.
        ``all_outputs`` asks for the output of every token, as embeddings need it.

        Returns the batch index of the last token. Raises ValueError, and changes nothing, when the run is empty or
        does not fit, or the sequence or position is out of range.
        """
        first, n = self.native.n_tokens, len(tokens)
        last = first + n
        if n == 0:
            raise ValueError("a run needs at least one token")
        if last > self.capacity:
            raise ValueError(f"the batch takes {self.capacity} tokens, not {last}")
        if not 0 <= seq < self.n_seqs:
            raise ValueError(f"sequence {seq} is out of range (0 to {self.n_seqs - 1})")
        if not 0 <= start <= np.iinfo(np.int32).max - n:
            raise ValueError(f"position {start} is out of range")
        self._tokens[first:last] = ids = np.asarray(tokens, np.int64)
        if (self._tokens[first:last] != ids).any():
            raise ValueError("a token id does not fit 32 bits")
        np.add(self._offsets[:n], start, out=self._positions[first:last])
        self._seqs[first:last] = self._id_addresses[seq]
        self._logits[first:last] = all_outputs
        self._logits[max(first, last - 1 - n_before) : last] = logits or all_outputs
        self.native.n_tokens = last
        return int(last - 1)

    def add_rows(
        self, seqs: Sequence[int], positions: Sequence[int], tokens: Sequence[int], logits: Sequence[bool]
    ) -> None:
        """Append one token of each of these sequences: ``add_run`` for many at once.

        Raises ValueError, and changes nothing, when they do not fit, or an id, position or token is out of range.
        """
        first = self.native.n_tokens
        last = first + len(seqs)
        if last > self.capacity:
            raise ValueError(f"the batch takes {self.capacity} tokens, not {last}")
        try:
            columns = np.array([seqs, positions, tokens], np.int32)
        except OverflowError as error:
            raise ValueError("an id, a position or a token does not fit 32 bits") from error
        if columns[0].min(initial=0) < 0 or columns[0].max(initial=0) >= self.n_seqs:
            raise ValueError(f"a sequence is out of range (0 to {self.n_seqs - 1})")
        if columns[1].min(initial=0) < 0:
            raise ValueError("a position is out of range")
        self._seqs[first:last] = self._id_addresses[columns[0]]
        self._positions[first:last] = columns[1]
        self._tokens[first:last] = columns[2]
        self._logits[first:last] = logits
        self.native.n_tokens = last

    def lowest_token(self) -> int:
        """The smallest token id in the batch, which must not be empty."""
        return int(self._tokens[: len(self)].min())

    def highest_token(self) -> int:
        """The largest token id in the batch, which must not be empty."""
        return int(self._tokens[: len(self)].max())


class EmbeddingBatch:
    """Rows of embeddings in place of tokens, all of one sequence, without logits: ``native`` is the llama_batch."""

    def __init__(
        self, lib: Any, numbers: NDArray[np.int32], rows: np.ndarray[Any, Any], positions: np.ndarray[Any, Any]
    ) -> None:
        """``numbers``: the library's, of the sequence; ``rows``: float32[n, n_embd]; ``positions``: int32[n_pos, n]."""
        n = len(rows)
        self._rows = np.ascontiguousarray(rows, np.float32)
        self._positions = np.ascontiguousarray(positions, np.int32)
        self._counts = np.full(n, len(numbers), np.int32)
        self._ids = numbers.copy()
        self._seqs = np.full(n, self._ids.ctypes.data, np.uintp)
        self._logits = np.zeros(n, np.int8)
        self.native = lib.llama_batch(
            n_tokens=n,
            token=None,
            embd=_pointer(self._rows, ctypes.c_float),
            pos=_pointer(self._positions, ctypes.c_int32),
            n_seq_id=_pointer(self._counts, ctypes.c_int32),
            seq_id=_pointer(self._seqs, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._logits, ctypes.c_int8),
        )


def _pointer(array: np.ndarray[Any, Any], element: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(element))
