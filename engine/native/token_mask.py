"""Which tokens may be drawn, one bit each."""

from collections.abc import Buffer
from typing import Final

import numpy as np
from numpy.typing import NDArray

# With fewer tokens than this share of the vocabulary it is quicker to gather them than to look for the best of all.
_FEW: Final = 1 / 16


class TokenMask:
    """The lowest bit of the first byte is token 0; there are at least ``n_vocab`` bits, those behind are zero."""

    def __init__(self, bits: Buffer, n_vocab: int) -> None:
        self._bits = np.frombuffer(bits, np.uint8)
        self._n_vocab = n_vocab

    def allows(self, token: int) -> bool:
        """Whether the token may be drawn."""
        return bool(self._bits[token >> 3] >> (token & 7) & 1)

    def among(self, tokens: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of the tokens may be drawn."""
        found: NDArray[np.bool_] = (self._bits[tokens >> 3] >> (tokens & 7).astype(np.uint8) & 1).view(np.bool_)
        return found

    def has_few(self) -> bool:
        """Whether so few tokens are allowed that ``ids`` is the quicker way."""
        return int(np.bitwise_count(self._bits).sum()) <= self._n_vocab * _FEW

    def ids(self) -> NDArray[np.intp]:
        """The allowed tokens, ascending."""
        return np.flatnonzero(np.unpackbits(self._bits, count=self._n_vocab, bitorder="little").view(np.bool_))
