"""Finds the text that wakes a grammar, wherever tokens end, and says from which token on the grammar counts."""

from collections import deque
from collections.abc import Sequence

import attrs

from engine.text.requests import Trigger


@attrs.frozen
class Found:
    """``tokens`` and their texts from the one on in which the grammar's text begins, ``skip`` bytes into it."""

    tokens: tuple[int, ...]
    pieces: tuple[bytes, ...]
    skip: int


class TriggerSearch:
    """Feed tokens until a trigger is found; after that nothing more may be fed."""

    def __init__(self, triggers: Sequence[Trigger]) -> None:
        self._needles = tuple((t.text.encode("utf-8", "replace"), t.included) for t in triggers if t.text)
        self._overlap = max((len(needle) for needle, _ in self._needles), default=1) - 1
        self._recent: deque[tuple[int, bytes]] = deque()
        self._tail = b""  # the texts of the recent tokens

    def feed(self, token: int, piece: bytes) -> Found | None:
        """Add a token with its visible bytes. Tokens without any are passed over."""
        if not piece:
            return None
        self._recent.append((token, piece))
        self._tail += piece
        # The trigger that is complete first wins, so that it makes no difference where tokens end.
        places = [(self._tail.find(needle), needle, included) for needle, included in self._needles]
        hits = [(at + len(needle), at, included) for at, needle, included in places if at >= 0]
        if hits:
            end, at, included = min(hits)
            return self._from(at if included else end)
        while len(self._tail) - len(self._recent[0][1]) >= self._overlap:
            _, gone = self._recent.popleft()
            self._tail = self._tail[len(gone) :]
            if not self._recent:
                break
        return None

    def _from(self, start: int) -> Found:
        recent = list(self._recent)
        while recent and start >= len(recent[0][1]):
            start -= len(recent.pop(0)[1])
        return Found(tuple(token for token, _ in recent), tuple(piece for _, piece in recent), start)
