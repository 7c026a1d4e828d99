"""The tokens that a sampler may choose from, in numpy and as the native array that points into it."""

import ctypes
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""llama_token_data."""

_GROUPS_PER_RANK: Final = 8  # how many groups ``top_superset`` forms for each token wanted
_FEWEST_GROUPS: Final = 1024
_FEWEST_ROWS: Final = 8  # with fewer elements a group the search costs more than it saves


class Candidates:
    """Scratch memory for one thread: up to ``n_vocab`` candidates. Samplers reorder it and cut it down."""

    def __init__(self, lib: Any, n_vocab: int) -> None:
        self._rows = np.empty(n_vocab, CANDIDATE)
        self._ids = np.arange(n_vocab, dtype=np.int32)
        self._start = ctypes.cast(self._rows.ctypes.data, lib.llama_token_data_p)
        self.native = lib.llama_token_data_array()

    def fill(self, logits: NDArray[np.float32], ids: NDArray[np.intp] | None) -> Any:
        """Set the candidates to ``ids`` (None: all tokens) with their entries of ``logits``; returns the native array.

        ``logits`` is float32[n_vocab].
        """
        n = len(logits) if ids is None else len(ids)
        rows = self._rows[:n]
        rows["id"] = self._ids if ids is None else ids
        rows["logit"] = logits if ids is None else logits[ids]
        native = self.native
        native.data, native.size, native.selected, native.sorted = self._start, n, -1, False
        return native

    def remaining(self) -> NDArray[Any]:
        """A copy of the candidates that the samplers left, with their probabilities."""
        native = self.native
        address = ctypes.addressof(native.data.contents)
        raw = (ctypes.c_char * (native.size * CANDIDATE.itemsize)).from_address(address)
        return np.frombuffer(raw, CANDIDATE).copy()


def top_superset(logits: NDArray[np.float32], k: int) -> NDArray[np.intp] | None:
    """Ascending indices of the ``k`` largest entries and a few more; None where a search would not pay.

    The k-th largest of the maxima of disjoint groups is a lower bound of the k-th largest entry, so whatever reaches
    it is a superset. That takes a tenth of the time of partitioning a vocabulary of 150,000.
    """
    groups = max(_FEWEST_GROUPS, _GROUPS_PER_RANK * k)
    rows = len(logits) // groups
    if rows < _FEWEST_ROWS:
        return None
    maxima = logits[: rows * groups].reshape(rows, groups).max(axis=0)
    bound = np.partition(maxima, groups - k)[groups - k]
    found = np.flatnonzero(logits >= bound)
    return found if len(found) >= k else None  # NaN among the logits


def top_indices(values: NDArray[np.float32], n: int) -> NDArray[np.intp]:
    """Indices of the ``n`` largest values, best first; the lower index wins a tie."""
    n = min(n, len(values))
    found = top_superset(values, n) if n else None
    if found is None:
        found = np.arange(len(values))
        if n < len(values):
            found = np.sort(np.argpartition(values, len(values) - n)[len(values) - n :]) if n else found[:0]
    return found[np.argsort(-values[found], kind="stable")[:n]]


def log_sum_exp(logits: NDArray[np.float32]) -> float:
    """The natural logarithm of the sum of the exponentials."""
    highest = logits.max()
    return float(highest) + float(np.log(np.exp(logits - highest).sum()))
