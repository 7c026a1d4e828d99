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
_NUCLEUS: Final = (256, 2048, 16384)  # among so many of the best entries the nucleus is looked for, in turn
_SLACK: Final = 1e-3  # more than two ways of computing a bound are apart


class Candidates:
    """Scratch memory for one thread: up to ``n_vocab`` candidates. Samplers reorder it and cut it down."""

    def __init__(self, lib: Any, n_vocab: int) -> None:
        self._rows = np.empty(n_vocab, CANDIDATE)
        self._ids = np.arange(n_vocab, dtype=np.int32)
        self._start = ctypes.cast(self._rows.ctypes.data, lib.llama_token_data_p)
        self.native = lib.llama_token_data_array()

    def fill(self, logits: NDArray[np.float32], ids: NDArray[np.integer[Any]] | None) -> Any:
        """Set the candidates to ``ids``, None: all tokens, with ``logits``, float32[n]. Returns the native array."""
        n = len(logits)
        rows = self._rows[:n]
        rows["id"] = self._ids if ids is None else ids
        rows["logit"] = logits
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
    it is a superset. That takes a tenth of the time of partitioning a vocabulary of 150,000. What is not found is
    smaller than everything that is.
    """
    groups = max(_FEWEST_GROUPS, _GROUPS_PER_RANK * k)
    rows = len(logits) // groups
    if rows < _FEWEST_ROWS:
        return None
    maxima = logits[: rows * groups].reshape(rows, groups).max(axis=0)
    bound = np.partition(maxima, groups - k)[groups - k]
    found = np.flatnonzero(logits >= bound)
    return found if len(found) >= k else None  # NaN among the logits


def near_top(logits: NDArray[np.float32], distance: float) -> NDArray[np.intp]:
    """Ascending indices of the entries at most ``distance`` below the largest, or a little more than that."""
    return np.flatnonzero(logits >= logits.max() - np.float32(distance + _SLACK))


def nucleus(logits: NDArray[np.float32], p: float, least: int) -> NDArray[np.intp] | None:
    """Indices of the fewest entries whose probabilities sum up to ``p``, but of ``least`` at least; None: all.

    What llama.cpp's top_p keeps (https://arxiv.org/abs/1904.09751), by a sum over all and a sort of a few. The order
    is that of ``logits``; of equals at the edge the first ones are in.
    """
    total = log_sum_exp(logits)
    for k in (*_NUCLEUS, len(logits)):
        best = _largest(logits, min(k, len(logits)))
        sums = np.exp(best - np.float32(total)).cumsum(dtype=np.float64)
        n = max(int(np.searchsorted(sums, p)) + 1, least)
        if n <= len(best):
            break
    if n >= len(logits) or np.isnan(best[n - 1]):
        return None
    kept = np.flatnonzero(logits >= best[n - 1])
    ties = np.flatnonzero(logits[kept] == best[n - 1])
    return np.delete(kept, ties[len(ties) - (len(kept) - n) :])


def best_index(logits: NDArray[np.float32], tokens: NDArray[np.intp] | None = None) -> int:
    """Index of the largest of at least one entry; the lower index wins a tie. ``tokens`` None: they are the indices.

    As in the library's greedy sampler, which compares each logit with the best one so far, NaN is never the best one,
    except where it is token 0's.
    """
    best = int(logits.argmax())
    if not np.isnan(logits[best]) or (best == 0 and (tokens is None or tokens[0] == 0)):
        return best
    numbers = np.flatnonzero(~np.isnan(logits))
    return int(numbers[logits[numbers].argmax()]) if len(numbers) else 0


def top_indices(values: NDArray[np.float32], n: int) -> NDArray[np.intp]:
    """Indices of the ``n`` largest values, best first; the lower index wins a tie."""
    n = min(n, len(values))
    if not n:
        return np.arange(0)
    found = top_superset(values, n)
    if found is None:
        found = np.flatnonzero(values >= np.partition(values, len(values) - n)[len(values) - n])
    if len(found) < n:  # NaN among the values
        found = np.arange(len(values))
    return found[np.argsort(-values[found], kind="stable")[:n]]


def log_sum_exp(logits: NDArray[np.float32]) -> float:
    """The natural logarithm of the sum of the exponentials."""
    highest = logits.max()
    shifted = logits - highest
    return float(highest) + float(np.log(np.exp(shifted, out=shifted).sum()))


def _largest(values: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """The ``n`` largest, or some more of them, best first."""
    found = top_superset(values, n)
    if found is not None:
        return -np.sort(-values[found])
    return -np.sort(-np.partition(values, len(values) - n)[len(values) - n :])
