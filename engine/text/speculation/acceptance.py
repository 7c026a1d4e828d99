"""How often drafted tokens are right: learned while running, by what they rest on, for each sequence and for all."""

from collections.abc import Hashable
from typing import Final

import attrs

from engine.text.sequence import Sequence
from engine.text.speculation.drafter import Draft

# Weights of what is known before: of the guess in tokens of all sequences, of all sequences in tokens of one.
_GUESS_WEIGHT: Final = 6.0
_COMMON_WEIGHT: Final = 6.0
# What is left of the older counts at each new one: about the last 500 and the last 30 tokens count.
_COMMON_MEMORY: Final = 0.998
_OWN_MEMORY: Final = 0.97


@attrs.define
class _Tally:
    right: float = 0.0
    all: float = 0.0

    def add(self, *, right: bool, memory: float) -> None:
        self.right = self.right * memory + right
        self.all = self.all * memory + 1

    def rate(self, before: float, weight: float) -> float:
        return (self.right + before * weight) / (self.all + weight)


class Acceptance:
    """Counts by level (see ``Draft``)."""

    def __init__(self) -> None:
        self._common: dict[Hashable, _Tally] = {}
        self._own: dict[Sequence, dict[Hashable, _Tally]] = {}

    def chance(self, sequence: Sequence, level: Hashable, guess: float) -> float:
        """How likely a token of this level is right, if all before it are; 0 to 1."""
        common = self._common.get(level)
        rate = guess if common is None else common.rate(guess, _GUESS_WEIGHT)
        own = self._own.get(sequence, {}).get(level)
        return rate if own is None else own.rate(rate, _COMMON_WEIGHT)

    def chances(self, sequence: Sequence, draft: Draft) -> list[float]:
        """``chance`` for each token of the draft."""
        pairs = zip(draft.levels, draft.guesses, strict=True)
        return [self.chance(sequence, level, guess) for level, guess in pairs]

    def observe(self, sequence: Sequence, draft: Draft, tokens: list[int]) -> None:
        """The sequence went on with ``tokens``: whether the draft was in the batch or not, it was right or wrong."""
        for drafted, level, token in zip(draft.tokens, draft.levels, tokens, strict=False):
            self.count(sequence, level, right=drafted == token)
            if drafted != token:
                return

    def count(self, sequence: Sequence, level: Hashable, *, right: bool) -> None:
        """One token of this level was right or wrong."""
        self._common.setdefault(level, _Tally()).add(right=right, memory=_COMMON_MEMORY)
        own = self._own.setdefault(sequence, {})
        own.setdefault(level, _Tally()).add(right=right, memory=_OWN_MEMORY)

    def forget(self, sequence: Sequence) -> None:
        """The sequence has ended."""
        self._own.pop(sequence, None)
