"""Where a text has said before what it said last: the search behind prompt lookup."""

import attrs
import numpy as np
from numpy.typing import NDArray

from engine.text.sequence import Sequence
from engine.text.tokens import Tokens

# With so few places left each is compared as a whole.
_FEW = 4
_JOIN = 8  # tokens that are compared to find out whether a context was shifted


@attrs.frozen
class Match:
    """``length`` tokens before position ``end`` are the same as the last ones."""

    end: int
    length: int


class History:
    """The tokens of one sequence as an array that grows with it; pseudo-tokens of media are -1."""

    def __init__(self) -> None:
        self._room = np.empty(0, np.int32)
        self._n = 0

    @property
    def tokens(self) -> NDArray[np.int32]:
        """int32[n]; the next ``follow`` may overwrite it."""
        return self._room[: self._n]

    def follow(self, sequence: Sequence) -> None:
        """Take over what the sequence has got since, or everything where its context was shifted."""
        tokens, known = sequence.tokens, self._n
        end = _plain(tokens[max(0, known - _JOIN) : known])
        if known > len(tokens) or not np.array_equal(end, self.tokens[-_JOIN:]):
            known = 0
        if len(tokens) > len(self._room):
            room = np.empty(len(tokens) * 3 // 2 + 64, np.int32)
            room[:known] = self._room[:known]
            self._room = room
        self._room[known : len(tokens)] = _plain(tokens[known:])
        self._n = len(tokens)

    def match(self, most: int) -> Match | None:
        """The earlier place where most of the last tokens stand, up to ``most``; the latest of equally good ones.

        None where not even the last token occurred before. One pass over the text, microseconds for thousands of
        tokens.
        """
        tokens, n = self.tokens, self._n
        if n < 2:
            return None
        ends = np.flatnonzero(tokens[:-1] == tokens[-1]) + 1
        if not len(ends):
            return None
        length = 1
        while len(ends) > _FEW and length < most:
            longer = ends[ends > length]
            longer = longer[tokens[longer - length - 1] == tokens[n - length - 1]]
            if not len(longer):
                return Match(int(ends[-1]), length)
            ends, length = longer, length + 1
        matches = [Match(int(end), self._common(int(end), most)) for end in ends[-_FEW:]]
        return max(matches, key=lambda match: (match.length, match.end))

    def after(self, match: Match, count: int) -> list[int]:
        """The ``count`` tokens behind a match; a text that repeats itself goes on doing so. Media end it."""
        period = self._n - match.end
        found: list[int] = self.tokens[match.end : match.end + count].tolist()
        while len(found) < count:
            found.append(found[len(found) - period])
        return found[: found.index(-1)] if -1 in found else found

    def _common(self, end: int, most: int) -> int:
        span = min(most, end)
        tokens, n = self.tokens, self._n
        same = tokens[end - span : end] == tokens[n - span : n]
        return span if same.all() else int(same[::-1].argmin())


def _plain(tokens: Tokens) -> NDArray[np.int64]:
    return np.maximum(np.asarray(tokens, np.int64), -1)
