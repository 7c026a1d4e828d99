"""The slots: places for running requests, that clients know by number."""

from engine.text.sequence import Sequence


class Slots:
    """Who sits where, and which slot has been unused longest."""

    def __init__(self, n_slots: int) -> None:
        self._holders: list[Sequence | None] = [None] * n_slots
        self._used: list[int] = [0] * n_slots  # arrival of the last holder

    @property
    def n_taken(self) -> int:
        """How many are taken."""
        return sum(holder is not None for holder in self._holders)

    def holder(self, slot: int) -> Sequence | None:
        """Who sits there."""
        return self._holders[slot]

    def choose(self, sequence: Sequence) -> int | None:
        """The slot that was asked for, else the one unused longest; None: it has to wait."""
        wanted = sequence.request.slot
        if wanted is not None:
            return wanted if self._holders[wanted] is None else None
        free = [i for i, holder in enumerate(self._holders) if holder is None]
        return min(free, key=lambda i: (self._used[i], i), default=None)

    def take(self, slot: int, sequence: Sequence) -> None:
        """Put the sequence into the free slot."""
        self._holders[slot] = sequence
        self._used[slot] = sequence.arrival

    def give_up(self, slot: int) -> None:
        """Free the slot."""
        self._holders[slot] = None
