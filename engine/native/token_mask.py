"""Which tokens may be drawn, one bit each: applied to logits without looking at tokens one by one."""

from collections.abc import Buffer
from typing import Final

import numpy as np
from numpy.typing import NDArray

# What is added to the logits of eight tokens, by the byte that says which of them are allowed.
_ADDED: Final = np.where((np.arange(256)[:, None] >> np.arange(8)) & 1, 0, -np.inf).astype(np.float32)
# With fewer tokens than this share of the vocabulary it is quicker to gather them than to forbid the others.
_FEW: Final = 1 / 16


class TokenMask:
    """The lowest bit of the first byte is token 0; there are at least ``n_vocab`` bits, those behind are zero."""

    def __init__(self, bits: Buffer, n_vocab: int) -> None:
        self._bits = np.frombuffer(bits, np.uint8)
        self._n_vocab = n_vocab

    def allows(self, token: int) -> bool:
        """Whether the token may be drawn."""
        return bool(self._bits[token >> 3] >> (token & 7) & 1)

    def has_few(self) -> bool:
        """Whether so few tokens are allowed that ``ids`` is the quicker way."""
        return int(np.bitwise_count(self._bits).sum()) <= self._n_vocab * _FEW

    def ids(self) -> NDArray[np.intp]:
        """The allowed tokens, ascending."""
        return np.flatnonzero(np.unpackbits(self._bits, count=self._n_vocab, bitorder="little").view(np.bool_))

    def apply(self, logits: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Write ``logits`` to ``out``, with minus infinity for forbidden tokens. float32[n_vocab]; may be the same."""
        added = np.take(_ADDED, self._bits, axis=0).reshape(-1)[: self._n_vocab]
        np.add(logits, added, out=out)
