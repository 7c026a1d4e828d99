r"""Escape sequences in text from the command line: ``\n``, ``\t``, ``\x41``, ``\u00e9`` …"""

import re
from typing import Final

_SIMPLE: Final = {
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "0": "\0",
    "a": "\a",
    "b": "\b",
    "e": "\x1b",
    "f": "\f",
    "v": "\v",
    "\\": "\\",
    "'": "'",
    '"': '"',
}
_SEQUENCE: Final = re.compile(r"\\(?:((?:x[0-9a-fA-F]{2})(?:\\x[0-9a-fA-F]{2})*)|u([0-9a-fA-F]{4})|(.))", re.DOTALL)


def unescape(text: str) -> str:
    r"""``text`` with its escape sequences resolved; sequences that mean nothing stay as they are.

    Neighbouring ``\xNN`` are the bytes of UTF-8 text; ValueError where they are not.
    """
    return _SEQUENCE.sub(_resolve, text)


def _resolve(match: re.Match[str]) -> str:
    hexadecimal, code, other = match.groups()
    if hexadecimal:
        try:
            return bytes.fromhex(hexadecimal.replace("\\x", "").removeprefix("x")).decode()
        except UnicodeDecodeError:
            raise ValueError(f"{match[0]} is not UTF-8 text") from None
    if code:
        return chr(int(code, 16))
    return _SIMPLE.get(other, match[0])
