"""The slots: places for running requests, that clients know by number.

Cached prefixes are shared by all slots, so which one a request gets decides its number and nothing else. What a slot
remembers is for clients that think of a slot as the place where their conversation is.
"""

from bisect import insort
from heapq import nlargest
from typing import Final

import attrs

from engine.text.adapters import AdapterSet
from engine.text.sequence import Sequence
from engine.text.tokens import Tokens, common_prefix

# Slots whose prompts are compared to the end for one request; each takes microseconds.
_MOST_COMPARED: Final = 8


@attrs.frozen
class Remembered:
    """Tokens that a slot's last sequence left in the cache. Some or all may have been given up since."""

    tokens: Tokens  # at least one; never changed
    adapters: AdapterSet


@attrs.frozen
class Left:
    """As ``Remembered``: the first ``length`` of the tokens, without a copy of them. The row may grow behind those."""

    tokens: Tokens
    length: int
    adapters: AdapterSet


class Slots:
    """Who sits where, what each slot remembers, and which has been unused longest.

    ``similarity``: the share of its remembered tokens that a prompt must begin with for a slot to be preferred; 0: off.
    """

    def __init__(self, n_slots: int, similarity: float = 0.0) -> None:
        self._similarity = similarity
        self._holders: list[Sequence | None] = [None] * n_slots
        self._free = list(range(n_slots))  # in ascending order
        self._used: list[int] = [0] * n_slots  # arrival of the last holder
        self._left: list[Left | None] = [None] * n_slots

    @property
    def n_taken(self) -> int:
        """Slots where somebody sits."""
        return len(self._holders) - len(self._free)

    def holder(self, slot: int) -> Sequence | None:
        """Who sits there."""
        return self._holders[slot]

    def remembered(self, slot: int) -> Remembered | None:
        """What the last sequence there has left."""
        left = self._left[slot]
        return None if left is None else Remembered(left.tokens[: left.length], left.adapters)

    def n_remembered(self, slot: int) -> int:
        """How many tokens that are."""
        left = self._left[slot]
        return 0 if left is None else left.length

    def remember(self, slot: int, left: Remembered | None) -> None:
        """Let a free slot remember something else."""
        assert self._holders[slot] is None, "a running sequence leaves its own tokens"
        self._left[slot] = None if left is None else Left(left.tokens, len(left.tokens), left.adapters)

    def has_place(self, sequence: Sequence) -> bool:
        """Whether ``choose`` would find one."""
        wanted = sequence.request.slot
        return bool(self._free) if wanted is None else self._holders[wanted] is None

    def choose(self, sequence: Sequence) -> int | None:
        """The slot that was asked for, else the most similar one, else the one unused longest; None: it has to wait."""
        wanted = sequence.request.slot
        if wanted is not None:
            return wanted if self._holders[wanted] is None else None
        if len(self._free) == 1:
            return self._free[0]
        if self._similarity > 0:
            scores = {i: self._score(i, sequence) for i in self._alike(sequence)}
            best = max(scores, key=lambda i: (scores[i], -self._used[i], -i), default=None)
            if best is not None and scores[best] > self._similarity:
                return best
        return min(self._free, key=self._used.__getitem__, default=None)  # the first of those that never were used

    def take(self, slot: int, sequence: Sequence) -> None:
        """Put the sequence into the free slot."""
        self._holders[slot] = sequence
        self._free.remove(slot)
        self._used[slot] = sequence.arrival

    def give_up(self, slot: int, left: Left | None) -> None:
        """Free the slot; ``left`` is what its sequence leaves in the cache."""
        self._holders[slot] = None
        insort(self._free, slot)
        self._left[slot] = left

    def _alike(self, sequence: Sequence) -> list[int]:
        """Free slots whose prompts may be similar enough: those that the prompt may go on with, then the last used.

        Looked at are two tokens of each: the first that a share above the limit needs, and the last, which tells
        whether all is shared. Where more than a few are left they share a beginning, and not which one matters.
        """
        tokens, n_tokens = sequence.tokens, len(sequence.tokens)
        ranked: list[tuple[bool, int, int]] = []
        for slot in self._free:
            left = self._left[slot]
            if left is None or left.adapters != sequence.adapters:
                continue
            theirs, n_theirs = left.tokens, left.length
            needed = int(self._similarity * n_theirs)
            if needed < n_theirs and (needed >= n_tokens or theirs[needed] != tokens[needed]):
                continue
            goes_on = n_theirs <= n_tokens and theirs[n_theirs - 1] == tokens[n_theirs - 1]
            ranked.append((goes_on, self._used[slot], -slot))
        return [-slot for _, _, slot in nlargest(_MOST_COMPARED, ranked)]

    def _score(self, slot: int, sequence: Sequence) -> float:
        """Share (0 to 1) of what the slot remembers that the sequence begins with."""
        left = self._left[slot]
        assert left is not None, "nothing to compare with"
        return min(left.length, common_prefix(left.tokens, sequence.tokens)) / left.length
