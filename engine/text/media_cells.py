"""What the pseudo-tokens of media (see ``engine.text.media``) say of the cells that they stand for."""

import sys
from typing import Final

from engine.text.media import BITS, MASK
from engine.text.tokens import Tokens

_TOP_BYTE: Final = 7 if sys.byteorder == "little" else 0  # of 8: its highest bit is a token's sign


def weight(tokens: Tokens) -> int:
    """Cells that the tokens take, which hold spans as a whole or not at all."""
    if tokens.tobytes()[_TOP_BYTE::8].isascii():  # none is negative: a twentieth of the time that `min` takes
        return len(tokens)
    return len(tokens) + sum((-1 - token) >> BITS & MASK for token in tokens if token < 0 and _index(token) == 0)


def whole(tokens: Tokens, length: int) -> int:
    """The largest number of leading tokens, at most ``length``, that cuts no span."""
    if length >= len(tokens) or tokens[length] >= 0:
        return length
    return length - _index(tokens[length])


def last_position(last: int, end: int) -> int:
    """The highest position that cells have where the token ``last`` is the one before position ``end``."""
    return end - 1 - _index(last) if last < 0 and (-1 - last) >> 2 * BITS & 1 else end - 1


def _index(token: int) -> int:
    return (-1 - token) & MASK
