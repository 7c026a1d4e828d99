"""What a drafter is: somebody who guesses how texts go on."""

from collections.abc import Hashable, Mapping
from typing import Protocol

import attrs

from engine.text.sequence import Sequence


@attrs.frozen
class Draft:
    """Tokens that may follow on a sequence, in order.

    ``levels``: what each of them rests on (the length of a match, a draft model's certainty): tokens with equal levels
    are about equally often right, which is measured. ``guesses``: how often, 0 to 1, before anything is measured.
    """

    tokens: tuple[int, ...] = ()
    levels: tuple[Hashable, ...] = ()
    guesses: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def first(self, count: int) -> "Draft":
        """The first ``count`` tokens of it."""
        return Draft(self.tokens[:count], self.levels[:count], self.guesses[:count])


class Drafter(Protocol):
    """Used by the engine thread. Being wrong costs time and nothing else: every token is checked by the model."""

    @property
    def price(self) -> float | None:
        """Seconds that one more token for all sequences costs; 0: next to nothing, None: not measured yet."""

    def propose(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, Draft]:
        """Drafts of at most so many tokens, also empty ones; sequences that it was not ready for are left out."""

    def forget(self, sequence: Sequence) -> None:
        """The sequence has ended. Unknown ones are ignored."""

    def idle(self) -> None:
        """Nothing is to be computed right now: time for what can wait."""

    def close(self) -> None:
        """Free and save everything. Idempotent."""
