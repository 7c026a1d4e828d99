"""Text that is still arriving, for parsers that are generators: they yield where they need more of it."""

import re
from collections.abc import Callable, Generator
from functools import lru_cache
from typing import Final

type Parsing[T] = Generator[None, None, T]

_STRUCTURE: Final = re.compile(r'["{}\[\]]')
_IN_STRING: Final = re.compile(r'["\\]')
_SPACE: Final = re.compile(r"\s*")
_SCALAR_END: Final = re.compile(r"[\s,}\]<\[]")


class Unparsable(Exception):
    """The text is not what the format says; it is content, then."""


class Reader:
    """Each method that yields waits for text; after ``close`` none waits any more. Linear in the length of the text."""

    def __init__(self) -> None:
        self._buffer = ""
        self._at = 0
        self._record: list[str] = []
        self._recording = False
        self.ended = False
        self.at_limit = False
        self.stop_string = ""
        self._starved = False
        self.trimmed = ""  # white space that ``until`` left out the last time

    def push(self, text: str) -> None:
        """More text has arrived."""
        self._buffer = self._buffer[self._at :] + text
        self._at = 0

    def close(self, *, at_limit: bool = False, stop_string: str = "") -> None:
        """No more text will come; the model would have gone on behind a limit, and has with a stop string."""
        self.ended = True
        self.at_limit = at_limit
        self.stop_string = stop_string

    def rest(self) -> str:
        """Read all that has arrived."""
        return self._read(self.pending)

    # --- what was read, for those who have to give it back ---

    def record(self) -> None:
        """Remember what is read from here on."""
        self._record = []
        self._recording = True

    def recorded(self) -> str:
        """What was read since ``record``; ends the recording."""
        self._recording = False
        text, self._record = "".join(self._record), []
        return text

    def given_back(self) -> str:
        """What was read since ``record``, for it was mere text; ends the recording.

        Nothing if the text was cut off before that was clear (see ``skip_half``).
        """
        text = self.recorded()
        return "" if self.skip_half() else text

    @property
    def so_far(self) -> str:
        """What was read since ``record``, and what has arrived behind it."""
        return "".join(self._record) + self._buffer[self._at :]

    def settle(self) -> None:
        """It is clear what was read is, though the text was cut off: it is given back."""
        self._starved = False

    def skip_half(self) -> bool:
        """Whether the text was cut off before it was clear what it is. What is left of it is read, then."""
        half = self._is_cut and self._starved
        if half:
            self.rest()
        return half

    # --- looking ---

    @property
    def pending(self) -> int:
        """Characters that have arrived and are not read yet."""
        return len(self._buffer) - self._at

    def peek(self, count: int) -> Parsing[str]:
        """The next ``count`` characters, fewer at the end of the text. Reads nothing."""
        while self.pending < count and not self.ended:
            yield
        self._starved = self._starved or self.pending < count
        return self._buffer[self._at : self._at + count]

    def at(self, *literals: str) -> Parsing[str | None]:
        """Which of the literals comes next, the longest one; None if none does. Reads nothing.

        An empty literal never comes.
        """
        for literal in sorted(filter(None, literals), key=len, reverse=True):
            if (yield from self._comes(literal)):
                return literal
        return None

    def at_end(self) -> Parsing[bool]:
        """Whether there is no more text."""
        return not (yield from self.peek(1))

    def cut_within(self, literal: str) -> bool:
        """Whether the text was cut off where this literal may have been about to come, or within it."""
        return self._is_cut and literal.startswith(self._buffer[self._at :])

    # --- reading ---

    def take(self, count: int) -> Parsing[str]:
        """Read ``count`` characters. Raises Unparsable where the text ends before."""
        text = yield from self.peek(count)
        if len(text) < count:
            raise Unparsable("the text ends too early")
        return self._read(count)

    def space(self) -> Parsing[str]:
        """Read white space, also none."""
        parts: list[str] = []
        while True:
            found = _SPACE.match(self._buffer, self._at)
            assert found is not None, "no white space is white space too"
            parts.append(self._read(found.end() - self._at))
            if self.pending or self.ended:
                return "".join(parts)
            yield

    def accept(self, *literals: str) -> Parsing[str | None]:
        """Read the literal that comes next, the longest one; None, and nothing is read, if none does."""
        found = yield from self.at(*literals)
        if found is not None:
            self._read(len(found))
        return found

    def expect(self, *literals: str) -> Parsing[str]:
        """Like ``accept``, but raises Unparsable if none comes."""
        found = yield from self.accept(*literals)
        if found is None:
            raise Unparsable(f"expected {' or '.join(map(repr, literals))}")
        return found

    def expect_loose(self, literal: str) -> Parsing[None]:
        """Read a literal whose white space, at its ends and inside, the model may have written otherwise."""
        for word in literal.split():
            yield from self.space()
            yield from self.expect(word)
        if literal[-1:].isspace():
            yield from self.space()

    def accept_end(self, literal: str) -> Parsing[bool]:
        """Read a mark loosely of which something may be missing: words of it, or what the end of the text cut off.

        White space in front is read in any case. Returns whether any of it was there.
        """
        any_word = False
        for word in literal.split():
            yield from self.space()
            if (yield from self.accept(word)) is not None:
                any_word = True
            elif self._cut(word):
                self._read(self.pending)
                any_word = True
        return any_word

    def until(
        self, *ends: str, to: Callable[[str], None], trim: bool = False, cut: bool = False, at_limit: bool = False
    ) -> Parsing[str | None]:
        """Hand the text before the first of ``ends`` to ``to`` as it arrives. Returns that end, which is not read.

        At the end of the text: None. ``trim`` leaves out white space right before an end (see ``trimmed``);
        ``cut`` leaves out what the end of the text may have left of one, ``at_limit`` does where a limit is that end.
        """
        search, prefixes, longest = _ends(ends)
        spaces: list[str] = []

        while True:
            found = search.search(self._buffer, self._at)
            if found is not None:
                text = self._read(found.start() - self._at)
                body = text.rstrip() if trim else text
                if body:
                    to("".join([*spaces, body]))
                    spaces.clear()
                self.trimmed = "".join([*spaces, text[len(body) :]])
                return found.group()
            if self.ended:
                self._starved = True
                held = self._held(prefixes, longest) if cut or (at_limit and self.at_limit) else 0
                text = self._read(self.pending - held)
                if self._read(held) and trim:
                    text = text.rstrip()
                    spaces = spaces if text else []
                if spaces or text:
                    to("".join([*spaces, text]))
                return None
            text = self._read(self.pending - self._held(prefixes, longest))
            if trim:
                body = text.rstrip()
                if body:
                    to("".join([*spaces, body]))
                    spaces = [text[len(body) :]] if len(body) < len(text) else []
                elif text:
                    spaces.append(text)
            elif text:
                to(text)
            yield

    def text_until(self, *ends: str) -> Parsing[str]:
        """The text before the first of ``ends``, which is not read. Raises Unparsable where the text ends before."""
        parts: list[str] = []
        end = yield from self.until(*ends, to=parts.append)
        if end is None:
            raise Unparsable(f"expected {' or '.join(map(repr, ends))}")
        return "".join(parts)

    def json(self, to: Callable[[str], None] | None = None) -> Parsing[str]:
        """Read one JSON value, space before it included, and return its text; ``to`` gets it as it arrives.

        Brackets and strings are followed, everything else is taken as it is. Raises Unparsable where the text ends
        before the value does.
        """
        yield from self.space()
        parts: list[str] = []

        def hand(count: int) -> None:
            text = self._read(count)
            if text:
                parts.append(text)
                if to is not None:
                    to(text)

        first = yield from self.peek(1)
        if not first:
            raise Unparsable("expected a JSON value")
        if first in '{["':
            yield from self._json_nested(hand)
        else:
            yield from self._json_scalar(hand)
        return "".join(parts)

    # --- inside ---

    @property
    def _is_cut(self) -> bool:
        """Whether the model would have gone on, or has."""
        return self.at_limit or bool(self.stop_string)

    def _json_nested(self, hand: Callable[[int], None]) -> Parsing[None]:
        depth = 0
        in_string = False
        while True:
            found = (_IN_STRING if in_string else _STRUCTURE).search(self._buffer, self._at)
            if found is None:
                hand(self.pending)
            else:
                mark = found.group()
                if mark == "\\":
                    hand(found.start() - self._at)
                    if len((yield from self.peek(2))) < 2:
                        hand(self.pending)
                        raise Unparsable("the text ends inside a JSON value")
                    hand(2)
                    continue
                hand(found.end() - self._at)
                if mark == '"':
                    in_string = not in_string
                else:
                    depth += 1 if mark in "{[" else -1
                if depth <= 0 and not in_string:
                    return
                continue
            if self.ended:
                self._starved = True
                raise Unparsable("the text ends inside a JSON value")
            yield

    def _json_scalar(self, hand: Callable[[int], None]) -> Parsing[None]:
        empty = True
        while True:
            found = _SCALAR_END.search(self._buffer, self._at)
            count = self.pending if found is None else found.start() - self._at
            empty = empty and count == 0
            hand(count)
            self._starved = self._starved or (found is None and self.ended)
            if found is not None or self.ended:
                if empty:
                    raise Unparsable("expected a JSON value")
                return
            yield

    def _comes(self, literal: str) -> Parsing[bool]:
        while True:
            here = self._buffer[self._at : self._at + len(literal)]
            if len(here) == len(literal) or not literal.startswith(here):
                return here == literal
            if self.ended:
                self._starved = True
                return False
            yield

    def _cut(self, literal: str) -> bool:
        """Whether the text has ended within this literal."""
        return self.ended and self.pending > 0 and literal.startswith(self._buffer[self._at :])

    def _held(self, prefixes: frozenset[str], longest: int) -> int:
        """Length of the longest end of the pending text that begins one of the ends."""
        for length in range(min(longest - 1, self.pending), 0, -1):
            if self._buffer[-length:] in prefixes:
                return length
        return 0

    def _read(self, count: int) -> str:
        text = self._buffer[self._at : self._at + count]
        self._at += count
        if self._recording and text:
            self._record.append(text)
        return text


@lru_cache(maxsize=256)
def _ends(ends: tuple[str, ...]) -> tuple[re.Pattern[str], frozenset[str], int]:
    """A pattern that finds the first of the ends, what may begin one, and the length of the longest."""
    assert all(ends), "an empty end would be found everywhere"
    pattern = "|".join(re.escape(end) for end in sorted(ends, key=len, reverse=True)) or r"(?!)"
    prefixes = frozenset(end[:length] for end in ends for length in range(1, len(end)))
    return re.compile(pattern), prefixes, max(map(len, ends), default=0)
