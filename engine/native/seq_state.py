"""The library's saved state of one sequence, taken apart: cells can be chosen, appended, and moved between caches.

The library saves and restores sequences as a whole, with the number of streams that the cache happens to have. The
layout is that of ``llama_kv_cache::state_write`` (llama.cpp, src/llama-kv-cache.cpp): magic, sequence, number of
streams; for each stream a count of cells, and where that is not 0 their positions, the keys of each layer, the values
of each layer, with a row for each cell or, without flash attention, a row for each element. What is not laid out like
that (windows, M-RoPE, recurrent states) is refused.
"""

from collections.abc import Buffer
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

type Bytes = NDArray[np.uint8]

_MAGIC: Final = 0xAF143CD8
_HEADER: Final = 12  # magic, sequence, number of streams
_COUNT: Final = 4
_META: Final = 12  # of a cell: position, 1, sequence
_KEY_HEAD: Final = 12  # type, bytes of a row
_ELEMENT_HEAD: Final = 12  # type, bytes of an element, number of rows


@attrs.frozen(eq=False)
class _Tensor:
    """The keys or values of a layer: uint8[rows, cells, bytes of a cell]."""

    head: Bytes
    data: Bytes


@attrs.frozen(eq=False)
class SeqState:
    """Cells of one sequence, of a cache with one stream. ``meta``: uint8[cells, 12]."""

    head: Bytes
    meta: Bytes
    middle: Bytes
    tensors: tuple[_Tensor, ...]

    @property
    def positions(self) -> NDArray[np.int32]:
        """int32[cells], in no particular order."""
        return self.meta[:, :4].copy().view(np.int32)[:, 0]

    def cut(self, p0: int, p1: int) -> "SeqState":
        """The cells at positions [p0, p1), which must all be there. Raises ValueError."""
        positions = self.positions
        (found,) = np.nonzero((positions >= p0) & (positions < p1))
        if len(found) != p1 - p0:
            raise ValueError(f"a saved state lacks positions of {p0} to {p1}")
        first, last = (int(found[0]), int(found[-1])) if len(found) else (0, -1)
        chosen: Any = slice(first, last + 1) if last + 1 - first == len(found) else found
        tensors = tuple(_Tensor(tensor.head, tensor.data[:, chosen]) for tensor in self.tensors)
        return SeqState(self.head, self.meta[chosen], self.middle, tensors)

    def joined(self, other: "SeqState") -> "SeqState":
        """These cells and others of the same model. Raises ValueError where they are of another kind."""
        pairs = list(zip(self.tensors, other.tensors, strict=True))
        if any(not np.array_equal(mine.head, theirs.head) for mine, theirs in pairs):
            raise ValueError("saved states of different models")
        tensors = tuple(_Tensor(mine.head, np.concatenate((mine.data, theirs.data), axis=1)) for mine, theirs in pairs)
        return SeqState(self.head, np.concatenate((self.meta, other.meta)), self.middle, tensors)

    def to_bytes(self) -> bytearray:
        """As the library saves it."""
        parts = [self.head, _number(len(self.meta)), self.meta, self.middle]
        for tensor in self.tensors:
            parts += [tensor.head, tensor.data]
        out = bytearray(sum(part.size for part in parts))
        whole, at = np.frombuffer(out, np.uint8), 0
        for part in parts:
            # Into its place at once: a part may be a view of a large array.
            whole[at : at + part.size].reshape(part.shape)[...] = part
            at += part.size
        return out


def parse(state: Buffer) -> SeqState:
    """Take apart what a cache with one stream saved; the arrays are views. Raises ValueError for another layout."""
    whole = np.frombuffer(state, np.uint8)
    if len(whole) < _HEADER + _COUNT or _u32(whole, 0) != _MAGIC or _u32(whole, 8) != 1:
        raise ValueError("not the state of a sequence")
    n_cells = _u32(whole, _HEADER)
    at = _HEADER + _COUNT
    meta = _take(whole, at, n_cells * _META).reshape(n_cells, _META)
    if n_cells == 0 or (meta[:, 4:8].copy().view(np.uint32) != 1).any():
        raise ValueError("a state without cells, or with more about each than its position")
    at += meta.size
    middle = _take(whole, at, 8)
    transposed, n_layers = _u32(middle, 0), _u32(middle, 4)
    at += 8
    tensors: list[_Tensor] = []
    for _ in range(n_layers):
        at = _add(tensors, whole, at, n_cells, by_element=False)
    if at < len(whole):  # else there are no values: they are computed from the keys
        for _ in range(n_layers):
            at = _add(tensors, whole, at, n_cells, by_element=bool(transposed))
    if at != len(whole):
        raise ValueError("a state that is longer than its cells")
    return SeqState(whole[:_HEADER], meta, middle, tuple(tensors))


def from_streams(state: bytearray, seq: int, n_streams: int) -> bytearray:
    """What a cache of one stream would have saved. Changes ``state``, which is of a sequence that is not empty.

    Raises ValueError where it is not.
    """
    before, behind = _COUNT * seq, _COUNT * (n_streams - 1 - seq)
    body = len(state) - behind
    counts = bytes(state[_HEADER : _HEADER + before]) + bytes(state[body:])
    if _u32(np.frombuffer(state, np.uint8), 8) != n_streams or counts.strip(b"\0"):
        raise ValueError(f"not the state of a sequence in {n_streams} streams")
    del state[body:]
    del state[_HEADER : _HEADER + before]
    state[8:_HEADER] = _number(1).tobytes()
    return state


def to_streams(state: Buffer, n_streams: int) -> bytearray:
    """What ``parse`` takes, as a cache of so many streams reads it, whichever of them is the target."""
    old = np.frombuffer(state, np.uint8)
    out = bytearray(len(old) + _COUNT * (n_streams - 1))
    new = np.frombuffer(out, np.uint8)
    new[: len(old)] = old
    new[8:_HEADER] = _number(n_streams)
    return out


def _add(tensors: list[_Tensor], whole: Bytes, at: int, n_cells: int, *, by_element: bool) -> int:
    """Take the next tensor, which begins at ``at``; returns where it ends."""
    if by_element:
        head = _take(whole, at, _ELEMENT_HEAD)
        size, n_rows = _u32(head, 4), _u32(head, 8)
    else:
        head = _take(whole, at, _KEY_HEAD)
        size, n_rows = _u32(head, 4), 1
        if _u32(head, 8):
            raise ValueError("a row of more than 4 GiB")
    at += head.size
    data = _take(whole, at, n_rows * n_cells * size).reshape(n_rows, n_cells, size)
    tensors.append(_Tensor(head, data))
    return at + data.size


def _take(whole: Bytes, at: int, size: int) -> Bytes:
    if at + size > len(whole):
        raise ValueError("a state that is shorter than its cells")
    return whole[at : at + size]


def _u32(data: Bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4].tobytes(), "little")


def _number(value: int) -> Bytes:
    return np.frombuffer(value.to_bytes(4, "little"), np.uint8)
