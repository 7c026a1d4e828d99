"""Repetition penalties on a whole row of logits, touching only the tokens that occurred.

The library's sampler looks up every token of the vocabulary; the values are the same.
"""

import collections
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray


@attrs.define
class PenaltyWindow:
    """The last ``size`` tokens of a sequence and what they cost. ``size`` and ``repeat`` are positive."""

    size: int
    repeat: float
    frequency: float
    presence: float
    _recent: collections.deque[int] = attrs.field(factory=collections.deque, init=False)
    _counts: dict[int, int] = attrs.field(factory=dict, init=False)

    def accept(self, tokens: Sequence[int]) -> None:
        """Append to the window; older tokens fall out."""
        for token in tokens[-self.size :]:
            self._counts[token] = self._counts.get(token, 0) + 1
            self._recent.append(token)
            if len(self._recent) > self.size:
                oldest = self._recent.popleft()
                if self._counts[oldest] == 1:
                    del self._counts[oldest]
                else:
                    self._counts[oldest] -= 1

    def tokens(self) -> NDArray[np.intp]:
        """The tokens in the window, each once."""
        return np.fromiter(self._counts.keys(), np.intp, len(self._counts))

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Penalise ``logits``, float32[n_vocab], in place."""
        tokens = self.tokens()
        counts = np.fromiter(self._counts.values(), np.float32, len(tokens))
        seen = logits[tokens]
        repeat = np.float32(self.repeat)
        seen = np.where(seen <= 0, seen * repeat, seen / repeat)
        logits[tokens] = seen - (counts * np.float32(self.frequency) + np.float32(self.presence))
