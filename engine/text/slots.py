"""The slots: places for running requests, that clients know by number.

Cached prefixes are shared by all slots, so which one a request gets decides its number and nothing else. What a slot
remembers is for clients that think of a slot as the place where their conversation is.
"""

import attrs

from engine.text.adapters import AdapterSet
from engine.text.prefix_node import common_prefix
from engine.text.sequence import Sequence


@attrs.frozen
class Remembered:
    """Tokens that a slot's last sequence left in the cache. Some or all may have been given up since."""

    tokens: list[int]  # at least one; never changed
    adapters: AdapterSet


class Slots:
    """Who sits where, what each slot remembers, and which has been unused longest.

    ``similarity``: the share of its remembered tokens that a prompt must begin with for a slot to be preferred; 0: off.
    """

    def __init__(self, n_slots: int, similarity: float = 0.0) -> None:
        self._similarity = similarity
        self._holders: list[Sequence | None] = [None] * n_slots
        self._used: list[int] = [0] * n_slots  # arrival of the last holder
        self._left: list[Remembered | None] = [None] * n_slots

    @property
    def n_taken(self) -> int:
        """How many are taken."""
        return sum(holder is not None for holder in self._holders)

    def holder(self, slot: int) -> Sequence | None:
        """Who sits there."""
        return self._holders[slot]

    def remembered(self, slot: int) -> Remembered | None:
        """What the last sequence there has left."""
        return self._left[slot]

    def remember(self, slot: int, left: Remembered | None) -> None:
        """Let a free slot remember something else."""
        assert self._holders[slot] is None, "a running sequence leaves its own tokens"
        self._left[slot] = left

    def has_place(self, sequence: Sequence) -> bool:
        """Whether ``choose`` would find one."""
        wanted = sequence.request.slot
        return None in self._holders if wanted is None else self._holders[wanted] is None

    def choose(self, sequence: Sequence) -> int | None:
        """The slot that was asked for, else the most similar one, else the one unused longest; None: it has to wait."""
        wanted = sequence.request.slot
        if wanted is not None:
            return wanted if self._holders[wanted] is None else None
        free = [i for i, holder in enumerate(self._holders) if holder is None]
        if self._similarity > 0:
            scores = {i: self._score(i, sequence) for i in free}
            best = max(free, key=lambda i: (scores[i], -self._used[i], -i), default=None)
            if best is not None and scores[best] > self._similarity:
                return best
        return min(free, key=lambda i: (self._used[i], i), default=None)

    def take(self, slot: int, sequence: Sequence) -> None:
        """Put the sequence into the free slot."""
        self._holders[slot] = sequence
        self._used[slot] = sequence.arrival

    def give_up(self, slot: int, left: Remembered | None) -> None:
        """Free the slot; ``left`` is what its sequence leaves in the cache."""
        self._holders[slot] = None
        self._left[slot] = left

    def _score(self, slot: int, sequence: Sequence) -> float:
        """Share (0 to 1) of what the slot remembers that the sequence begins with; 0 where it is not similar enough."""
        left = self._left[slot]
        if left is None or left.adapters != sequence.adapters:
            return 0.0
        # The first token that a share above the limit needs: it differs almost always, and is looked at before all.
        needed = int(self._similarity * len(left.tokens))
        if needed < len(left.tokens) and left.tokens[needed : needed + 1] != sequence.tokens[needed : needed + 1]:
            return 0.0
        return common_prefix(left.tokens, sequence.tokens) / len(left.tokens)
