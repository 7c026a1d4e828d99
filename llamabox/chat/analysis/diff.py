"""What two texts have in common at their ends, without cutting a mark such as ``<tool_call>`` or ``[ARGS]`` in two."""

import re
from bisect import bisect_left
from typing import Final

import attrs

# The mark may still be open where a text was cut at a name: <function=
_MARK: Final = re.compile(r"<[^<>\s][^<>]*(?:>|\Z)|\[/?[A-Za-z_][\w ]*\]")
_WORD: Final = re.compile(r"[^\W_]+")
_OPENING: Final = frozenset({"start", "begin", "open", "prefix"})
_CLOSING: Final = frozenset({"end", "close", "suffix", "stop"})


@attrs.frozen
class Mark:
    """A mark, and where it is in its text."""

    text: str
    start: int
    end: int

    @property
    def complete(self) -> bool:
        """Whether its end is there as well."""
        return self.text.endswith((">", "]"))


def marks_in(text: str) -> list[Mark]:
    """The marks of a text in their order."""
    return [Mark(found.group(), found.start(), found.end()) for found in _MARK.finditer(text)]


def common_prefix(a: str, b: str) -> str:
    """The longest common beginning that cuts neither a mark nor a word of either text."""
    length = _shared(a, b)
    texts = [(text, marks_in(text)) for text in (a, b)]
    while True:
        shorter = min(_before(text, marks, length) for text, marks in texts)
        if shorter == length:
            return a[:length]
        length = shorter


def common_suffix(a: str, b: str) -> str:
    """The longest common end that cuts neither a mark nor a word of either text."""
    length = _shared(a[::-1], b[::-1])
    texts = [(text, marks_in(text)) for text in (a, b)]
    while True:
        shorter = min(len(text) - _behind(text, marks, len(text) - length) for text, marks in texts)
        if shorter == length:
            return a[len(a) - length :]
        length = shorter


def paired(start: str, end: str) -> bool:
    """Whether one mark opens what the other closes: <think> and </think>, <|START_X|> and <|END_X|>."""
    first, last = _words(start), _words(end)
    closes = end[1:2] == "/" or any(word in _CLOSING for word in last)
    return closes and start[1:2] != "/" and _bare(first) == _bare(last) and start != end


def _shared(a: str, b: str) -> int:
    """The number of characters in which two texts begin alike."""
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _before(text: str, marks: list[Mark], at: int) -> int:
    """The last place up to ``at`` where the text may be cut."""
    index = bisect_left(marks, at, key=lambda mark: mark.start) - 1
    if index >= 0 and marks[index].end > at:
        return marks[index].start
    while _in_word(text, at):
        at -= 1
    return at


def _behind(text: str, marks: list[Mark], at: int) -> int:
    """The first place from ``at`` on where the text may be cut."""
    index = bisect_left(marks, at, key=lambda mark: mark.start) - 1
    if index >= 0 and marks[index].end > at:
        return marks[index].end
    while _in_word(text, at):
        at += 1
    return at


def _in_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum()


def _words(mark: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(mark)]


def _bare(words: list[str]) -> list[str]:
    return [word for word in words if word not in _OPENING | _CLOSING]
