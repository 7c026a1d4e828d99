"""Reads values that are no JSON, Python's literals and the like, and hands them on as JSON as they arrive.

Nothing nests the generators, so that depth costs nothing.
"""

import ast
import json
import math
import re
from collections.abc import Callable
from typing import Final

from llamabox.chat.formats.reader import Parsing, Reader, Unparsable

PYTHON_QUOTES: Final = ("'''", '"""', "'", '"')

_CLOSING: Final = {"{": "}", "[": "]", "(": ")"}
_JSON_OPEN: Final = {"{": "{", "[": "[", "(": "["}
_JSON_CLOSE: Final = {"}": "}", "]": "]", ")": "]"}
_WORDS: Final = {
    "True": "true",
    "true": "true",
    "False": "false",
    "false": "false",
    "None": "null",
    "null": "null",
}
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_PYTHON_NUMBER: Final = re.compile(r"[+-]?[0-9.][0-9a-fA-FxXoO_.+-]{0,60}")
_ESCAPES: Final[dict[str, str]] = {
    **dict(zip("ntrbfav0", "\n\t\r\b\f\a\v\0", strict=True)),
    **{char: char for char in "\\'\"/"},
    "\n": "",
}
_HEX: Final = {"x": 2, "u": 4, "U": 8}
_LOW_SURROGATE: Final = re.compile(r"\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_LOOKAHEAD: Final = 16


def read_value(source: Reader, to: Callable[[str], None], *, quotes: tuple[str, ...], closing: str) -> Parsing[None]:
    """Read one value and hand its JSON to ``to``: a growing prefix of it.

    ``quotes`` surround strings: those of one kind or three of ASCII's quotes know Python's escapes, others none.
    ``closing`` ends what is around the value. A bare word is a string. Raises Unparsable where the text is no value or
    ends inside one.
    """
    closings: list[str] = []  # what has to be closed, the outermost first
    while True:
        yield from source.space()
        opened = yield from source.accept(*_CLOSING)
        if opened is not None:
            to(_JSON_OPEN[opened])
            closings.append(_CLOSING[opened])
            yield from source.space()
            ended = (yield from source.accept(closings[-1])) is not None
            if not ended:
                yield from _member(source, to, closings, quotes)
                continue
            to(_JSON_CLOSE[closings.pop()])
        else:
            yield from _scalar(source, to, quotes, closings[-1] if closings else closing)
        if (yield from _next(source, to, closings, quotes)):
            return


def _next(source: Reader, to: Callable[[str], None], closings: list[str], quotes: tuple[str, ...]) -> Parsing[bool]:
    """Close what ends behind a value. Returns whether that is all, else another value follows."""
    while closings:
        yield from source.space()
        more = yield from source.accept(",")
        yield from source.space()
        if more and (yield from source.at(closings[-1])) is None:
            to(", ")
            yield from _member(source, to, closings, quotes)
            return False
        yield from source.expect(closings[-1])
        to(_JSON_CLOSE[closings.pop()])
    return True


def _member(source: Reader, to: Callable[[str], None], closings: list[str], quotes: tuple[str, ...]) -> Parsing[None]:
    """The key, where one has to come."""
    if closings[-1] != "}":
        return
    quote = yield from source.accept(*quotes)
    if quote is None:
        to(as_json((yield from source.text_until(":", ",", "}")).strip()))
    else:
        parts: list[str] = []
        yield from _string(source, parts.append, quote)
        to("".join(parts))
    yield from source.space()
    yield from source.expect(":")
    to(": ")


def _scalar(source: Reader, to: Callable[[str], None], quotes: tuple[str, ...], closing: str) -> Parsing[None]:
    quote = yield from source.accept(*quotes)
    if quote is None:
        # Where the closing is missing, the mark that ends the call must not become part of the word.
        to(word((yield from source.text_until(",", closing, "<"))))
    else:
        yield from _string(source, to, quote)


def word(text: str) -> str:
    """The JSON of a value that is written without quotes. Raises Unparsable if there is none."""
    text = text.strip()
    if not text:
        raise Unparsable("expected a value")
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text):
        return text
    if _PYTHON_NUMBER.fullmatch(text):
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            return as_json(text)
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            return json.dumps(value)
    return as_json(text)


def as_json(text: str) -> str:
    """A string of JSON."""
    return json.dumps(text, ensure_ascii=False)


def inside_string(text: str) -> str:
    """Text as it stands inside a string of JSON."""
    return as_json(text)[1:-1]


def _string(source: Reader, to: Callable[[str], None], quote: str) -> Parsing[None]:
    """A string, behind its opening quote. Raises Unparsable where the text ends inside."""
    escapes = quote in PYTHON_QUOTES
    to('"')
    while True:
        ends = (quote, "\\") if escapes else (quote,)
        end = yield from source.until(*ends, to=lambda part: to(inside_string(part)), cut=True)
        if end is None:
            raise Unparsable("the text ends inside a string")
        if end != quote:
            to(inside_string((yield from _escape(source))))
            continue
        closes = len(quote) > 1 or (yield from _closes(source))
        yield from source.take(len(quote))
        if closes:
            to('"')
            return
        to(inside_string(quote))


def _closes(source: Reader) -> Parsing[bool]:
    """Whether the quote that comes next ends its string. Some templates show strings with bare quotes inside."""
    for count in range(2, _LOOKAHEAD):
        text = yield from source.peek(count)
        if len(text) < count and source.at_limit:
            raise Unparsable("the text ends behind a quote")
        if len(text) < count or text[-1] in ",)]}:<":
            return True
        if not text[-1].isspace():
            return False
    return True


def _escape(source: Reader) -> Parsing[str]:
    """The text that an escape stands for; itself, where it is none."""
    mark = (yield from source.take(2))[1]
    if mark not in _HEX:
        return _ESCAPES.get(mark, "\\" + mark)
    code = yield from _hex(source, _HEX[mark])
    if code is None:
        return "\\" + mark
    if 0xD800 <= code < 0xDC00 and _LOW_SURROGATE.fullmatch((yield from source.peek(6))):
        low = int((yield from source.take(6)).removeprefix("\\u"), 16)
        code = 0x10000 + ((code - 0xD800) << 10) + low - 0xDC00
    return "\ufffd" if 0xD800 <= code < 0xE000 or code > 0x10FFFF else chr(code)


def _hex(source: Reader, count: int) -> Parsing[int | None]:
    digits = yield from source.peek(count)
    if len(digits) < count or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        return None
    yield from source.take(count)
    return int(digits, 16)
