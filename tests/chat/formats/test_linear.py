"""A long output costs as much a character as a short one, whether it comes at once or piece by piece."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from llamabox.chat.formats.base import Reading, Writer
from llamabox.chat.formats.generic import GenericCalls
from llamabox.chat.formats.reader import Reader
from llamabox.chat.formats.standard import StandardFormat
from tests.chat.formats.shapes import SYNTAXES, TOOLS, canonical

LENGTH = 600


class CountingReader(Reader):
    """Counts the characters that are copied when text arrives and when it is read."""

    copied = 0

    def push(self, text: str) -> None:
        self.copied += self.pending + len(text)
        super().push(text)

    def _read(self, count: int) -> str:
        self.copied += count
        return super()._read(count)


def work(chat_format: Any, text: str, step: int) -> tuple[int, int]:
    """Characters copied, and functions called, for text that comes ``step`` characters at a time."""
    source, out = CountingReader(), Writer(lambda: "id")
    parsing = chat_format.read(source, out, Reading(tools=TOOLS, new_id=lambda: "id"))
    copied_out = 0
    calls = _Calls()
    with calls:
        for at in range(0, len(text), step):
            source.push(text[at : at + step])
            next(parsing, None)
            copied_out += sum(len(getattr(delta, "text", "")) for delta in out.drain())
        source.close()
        next(parsing, None)
        copied_out += sum(len(getattr(delta, "text", "")) for delta in out.drain())
    assert copied_out > len(text) // 20, "the text means something"
    return source.copied + copied_out, calls.count


class _Calls:
    """Counts the calls of functions, those written in C included, while it is entered."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        sys.setprofile(self._see)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _see(self, _frame: object, event: str, _argument: object) -> None:
        if event in ("call", "c_call"):
            self.count += 1


def long_string(syntax: Any, length: int) -> str:
    return canonical(syntax, [("get_weather", {"city": 'a "b"\n<' * (length // 7)})])


def many_calls(syntax: Any, length: int) -> str:
    return canonical(syntax, [("get_weather", {"city": "Ulm", "days": 2})] * (length // 50))


def no_call(syntax: Any, length: int) -> str:
    return canonical(syntax, [("other", {"city": "Ulm"})]) * (length // 50)


@pytest.mark.parametrize("family", SYNTAXES)
@pytest.mark.parametrize("make", [long_string, many_calls, no_call])
def test_formats(family: str, make: Callable[[Any, int], str]) -> None:
    syntax = SYNTAXES[family]
    check(StandardFormat(tools=syntax), make(syntax, LENGTH), make(syntax, 2 * LENGTH))


@pytest.mark.parametrize("unit", ['a \\"b\\" \\n', "\\ud834\\udd1e", "}<"])
def test_generic_answers(unit: str) -> None:
    short, long = (f'{{"response": "{unit * (length // len(unit))}"}}' for length in (LENGTH, 2 * LENGTH))
    check(GenericCalls(), short, long)


def check(chat_format: Any, text: str, longer: str) -> None:
    """The longer text costs more in the ratio of the lengths, and neither costs much."""
    ratio = len(longer) / len(text)
    for step in (1, 10**9):
        copied, called = work(chat_format, text, step)
        copied_more, called_more = work(chat_format, longer, step)
        assert copied <= 30 * len(text)
        assert copied_more <= 1.05 * ratio * copied + 200
        assert called_more <= 1.05 * ratio * called + 200
