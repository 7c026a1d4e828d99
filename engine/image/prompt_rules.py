"""Which prompts the library survives."""

import math
import re
from typing import Final

from engine.errors import InvalidRequest

# The library matches prompts by a recursive regular expression over their bytes: 30,000 of them overflow its stack.
MOST_BYTES: Final = 8000
# The tokens into which the library cuts a prompt; group 1 is the weight of what a bracket encloses.
_ATTENTION: Final = re.compile(
    r"\\\(|\\\)|\\\[|\\\]|\\\\|\\|\(|\[|:([+-]?[.\d]+)\)|\)|\]|\bBREAK\b|[^\\()\[\]:B]+|:|\bB", re.ASCII
)
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
_MOST_FLOAT: Final = 3.4028234e38
_LEAST_FLOAT: Final = 1.1754944e-38  # smaller ones are out of range to the library
# A tokenizer has a table of characters that ends before the private planes and the tag characters.
_FIRST_BAD: Final = 0xA0000
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def clean_prompt(text: str) -> str:
    """The prompt without the characters that a tokenizer of the library has no room for."""
    return "".join(_REPLACEMENT if ord(char) >= _FIRST_BAD or 0xD800 <= ord(char) <= 0xDFFF else char for char in text)


def check_prompt(text: str, param: str) -> None:
    """Raise InvalidRequest for what the library would not survive or would cut silently."""
    if any(ord(char) >= _FIRST_BAD for char in text):
        raise InvalidRequest("the prompt has characters that no tokenizer knows", param)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest("the prompt is no Unicode text", param) from error
    if size > MOST_BYTES:
        raise InvalidRequest(f"the prompt has {size} bytes of UTF-8, at most {MOST_BYTES} are possible", param)
    if "\0" in text:
        raise InvalidRequest("the prompt has a NUL character", param)
    _check_weights(text, param)


def _check_weights(text: str, param: str) -> None:
    """Every weight that the library will read must be a number to it."""
    depth = 0
    for match in _ATTENTION.finditer(text):
        token, weight = match[0], match[1]
        if token == "(":  # noqa: S105  # a token of a prompt
            depth += 1
        elif weight and depth:
            depth -= 1
            if not is_float(weight):
                raise InvalidRequest(f"the prompt has the weight {weight[:40]!r}, which is no number in range", param)
        elif token == ")" and depth:  # noqa: S105  # a token of a prompt
            depth -= 1


def is_float(text: str) -> bool:
    """Whether C's ``strtof`` reads a 32-bit float at the beginning, without overflow or underflow."""
    match = _NUMBER.match(text)
    if match is None:
        return False
    value = abs(float(match[0]))
    return math.isfinite(value) and (value == 0 or _LEAST_FLOAT <= value <= _MOST_FLOAT)
