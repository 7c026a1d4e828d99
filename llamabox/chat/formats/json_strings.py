"""JSON strings that are still arriving, decoded as they do."""

import re
from collections.abc import Callable
from typing import Final

from llamabox.chat.formats.reader import Parsing, Reader, Unparsable

_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_UNIT: Final = re.compile(r"[0-9a-fA-F]{4}")
_LONE: Final = "\ufffd"  # what half a surrogate pair becomes


def read_string(source: Reader, to: Callable[[str], None]) -> Parsing[None]:
    """Read a JSON string, from its opening quote on, and hand its text to ``to`` as it arrives.

    An escape that JSON does not know stands for itself. Raises Unparsable where the text ends inside the string.
    """
    yield from source.expect('"')
    while (yield from source.until('"', "\\", to=to)) == "\\":
        yield from source.take(1)
        to((yield from _escaped(source)))
    yield from source.take(1)


def _escaped(source: Reader) -> Parsing[str]:
    """What the escape behind a backslash stands for."""
    letter = yield from source.take(1)
    if letter != "u":
        return _ESCAPES.get(letter, "\\" + letter)
    digits = yield from source.peek(4)
    if len(digits) < 4:
        raise Unparsable(f"the text ends inside the escape \\u{source.rest()}")
    if _UNIT.fullmatch(digits) is None:
        return "\\u"
    yield from source.take(4)
    unit = int(digits, 16)
    if not 0xD800 <= unit < 0xE000:
        return chr(unit)
    if unit >= 0xDC00 or (yield from source.at("\\u")) is None:
        return _LONE
    digits = (yield from source.peek(6))[2:]
    if _UNIT.fullmatch(digits) is None or not 0xDC00 <= int(digits, 16) < 0xE000:
        return _LONE
    yield from source.take(6)
    return chr(0x10000 + ((unit - 0xD800) << 10) + int(digits, 16) - 0xDC00)
