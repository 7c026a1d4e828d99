"""Counts the tokens of a model's reasoning and says when it has had enough."""

import enum

from engine.text.requests import Thinking


class _State(enum.Enum):
    """AHEAD: it may begin with the next text. AHEAD → OPEN → CLOSED, or AHEAD → CLOSED."""

    AHEAD = "ahead"
    OPEN = "open"
    CLOSED = "closed"


class ThinkingBudget:
    """Watches the visible text from its beginning; ``due`` once the reasoning has used up its tokens."""

    def __init__(self, thinking: Thinking) -> None:
        self.end = thinking.end
        self._budget = thinking.budget
        # Models do not keep to the white space around a marker.
        self._start = thinking.start.strip().encode("utf-8", "replace")
        self._end = thinking.end_text.strip().encode("utf-8", "replace")
        self._spent = 0
        self._tail = b""  # AHEAD: all text so far; OPEN: what may begin the end's text, or be half a character
        self._state = _State.OPEN if thinking.open else _State.AHEAD if self._start else _State.CLOSED

    @property
    def due(self) -> bool:
        """Whether the reasoning should end now: it is open, its budget is spent, and no character is incomplete."""
        return self._state is _State.OPEN and self._spent >= self._budget and not _cuts_character(self._tail)

    def feed(self, piece: bytes) -> None:
        """Add the visible bytes of the next token."""
        match self._state:
            case _State.AHEAD:
                self._look_for_start(piece)
            case _State.OPEN:
                self._spent += 1
                self._look_for_end(piece)
            case _State.CLOSED:
                pass
            case _:
                raise AssertionError(f"not a state: {self._state!r}")

    def close(self) -> None:
        """The reasoning is over, for whatever reason."""
        self._state = _State.CLOSED

    def _look_for_start(self, piece: bytes) -> None:
        self._tail = text = (self._tail + piece).lstrip()
        if text.startswith(self._start):
            self._state, self._tail = _State.OPEN, b""
            self._look_for_end(text[len(self._start) :])
        elif not self._start.startswith(text):
            self._state = _State.CLOSED

    def _look_for_end(self, piece: bytes) -> None:
        text = self._tail + piece
        if self._end and self._end in text:
            self._state = _State.CLOSED
        self._tail = text[-max(len(self._end) - 1, 3) :]


def _cuts_character(text: bytes) -> bool:
    """Whether the text ends inside a character. One byte too few at its beginning does not matter."""
    for back, byte in enumerate(reversed(text[-3:]), start=1):
        if byte >= 0xC0:
            return back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4 if byte < 0xF8 else 0)
        if byte < 0x80:
            return False
    return False
