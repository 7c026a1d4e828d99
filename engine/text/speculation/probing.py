"""Whether a drafter that takes time, a draft model, is worth asking for a sequence, and for how many tokens."""

import math
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from engine.text.sequence import Sequence
from engine.text.speculation.acceptance import Acceptance
from engine.text.speculation.drafter import Draft

# Tokens of all drafts together: how often they come and are right decides whether to ask at all.
_ASKED: Final = "asked"
_GUESS: Final = 0.8
_MARGIN: Final = 0.03
# Tokens until one that was not worth asking for is asked for once more: a token of a draft, to see how it does now.
_FIRST_PAUSE: Final = 32
# And for each token of the prompt, which the drafter may have to compute first.
_PAUSE_FOR_PROMPT: Final = 4


@attrs.define
class _Pause:
    length: int
    until: int  # tokens that the sequence has generated then


class Probing:
    """Remembers who is not worth asking for."""

    def __init__(self, acceptance: Acceptance) -> None:
        self._acceptance = acceptance
        self._pauses: dict[Sequence, _Pause] = {}
        self._asked: dict[Sequence, int] = {}  # tokens, the last time

    def worth_asking(
        self, wanted: Mapping[Sequence, int], price: float | None, cost: Callable[[int], float], least: int
    ) -> dict[Sequence, int]:
        """For whom to ask, and for how many tokens. ``price``: see ``Drafter``; ``cost``, ``least``: see ``allot``."""
        asked: dict[Sequence, int] = {}
        for sequence, most in wanted.items():
            rate = self._acceptance.chance(sequence, _ASKED, _GUESS)
            count = most if price is None else _best(rate, most, least, price / len(wanted), cost)
            if count:
                self._pauses.pop(sequence, None)
            else:
                count = int(self._is_due(sequence))
            if count:
                self._asked[sequence] = asked[sequence] = count
        return asked

    def observe(self, sequence: Sequence, draft: Draft, tokens: list[int]) -> None:
        """A draft that was asked for was followed by these tokens.

        Where it is shorter than asked for, the token that did not come counts as a wrong one: it cost as much.
        """
        for drafted, token in zip(draft.tokens, tokens, strict=False):
            self._acceptance.count(sequence, _ASKED, right=drafted == token)
            if drafted != token:
                return
        if len(draft) < min(len(tokens), self._asked.get(sequence, 0)):
            self._acceptance.count(sequence, _ASKED, right=False)

    def forget(self, sequence: Sequence) -> None:
        """The sequence has ended."""
        self._pauses.pop(sequence, None)
        self._asked.pop(sequence, None)

    def _is_due(self, sequence: Sequence) -> bool:
        pause = self._pauses.get(sequence)
        if pause is None:
            length = max(_FIRST_PAUSE, _PAUSE_FOR_PROMPT * len(sequence.request.prompt))
            self._pauses[sequence] = _Pause(length, sequence.n_generated + length)
            return False
        if sequence.n_generated < pause.until:
            return False
        pause.length = 2 * pause.length
        pause.until = sequence.n_generated + pause.length
        return True


def _best(rate: float, most: int, least: int, price: float, cost: Callable[[int], float]) -> int:
    """The number of tokens with which a sequence alone would be fastest; 0 where that is none."""
    plain = cost(0)
    best, best_value = 0, _MARGIN
    reach, expected = 1.0, 1.0
    for count in range(1, most + 1):
        reach *= rate
        expected += reach
        value = math.log(expected) - math.log((cost(count) + count * price) / plain)
        if count >= least and value > best_value:
            best, best_value = count, value
    return best
