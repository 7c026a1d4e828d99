"""What the pseudo-tokens of media (see ``engine.text.media``) say of the cells that they stand for."""

import numpy as np

from engine.text.media import BITS, MASK
from engine.text.tokens import Tokens


def weight(tokens: Tokens) -> int:
    """Cells that the tokens take, which hold spans as a whole or not at all."""
    if not tokens:
        return 0
    all_ids = np.frombuffer(tokens, np.int64)
    if all_ids.min() >= 0:
        return len(tokens)
    media = -1 - all_ids[all_ids < 0]
    firsts = media[media & MASK == 0]
    return len(tokens) + int((firsts >> BITS & MASK).sum())


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
