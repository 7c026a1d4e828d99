"""How many drafted tokens of each sequence are worth checking. Pure."""

import math
from collections.abc import Callable, Sequence
from typing import Final

# What drafts must promise, as a share of each stream's speed: the costs are measured, and so never exact.
_MARGIN: Final = 0.03


def allot(
    chances: Sequence[Sequence[float]],
    *,
    streams: int,
    cost: Callable[[int], float],
    least: int = 1,
    most: int,
    ceiling: float = math.inf,
) -> list[int]:
    """How many tokens of each draft to check: 0, or ``least`` and more; ``most`` in all.

    ``chances``: for each draft and token how likely it is right if those before it are. ``cost(n)``: seconds of the
    step with n drafted tokens in it; steps above ``ceiling`` are not chosen. All ``streams`` in the batch wait for the
    step, drafts or not. The sum of the logarithms of their speeds is made as large as possible, which weighs a stream
    that gains against those that only wait: proportional fairness (Kelly, 1997). Of the drafts' tokens those that add
    most go first; the number of them is the best of all, since costs come in steps.
    """
    pieces: list[tuple[float, float, int, int]] = []
    for index, draft in enumerate(chances):
        pieces += [(-gain / width, gain, width, index) for gain, width in _pieces(draft, max(1, least))]
    pieces.sort(key=lambda piece: piece[0])  # stable, and gains shrink along a draft: its order is kept
    plain = cost(0)
    best, best_value = 0, _MARGIN * streams
    gained, width = 0.0, 0
    for count, (_, gain, more, _) in enumerate(pieces, start=1):
        gained += gain
        width += more
        if width > most:
            break
        seconds = cost(width)
        value = gained - streams * math.log(seconds / plain)
        if value > best_value and seconds <= ceiling:
            best, best_value = count, value
    lengths = [0] * len(chances)
    for _, _, more, index in pieces[:best]:
        lengths[index] += more
    return lengths


def _pieces(chances: Sequence[float], least: int) -> list[tuple[float, int]]:
    """(gain, number of tokens): the first ``least`` tokens of a draft in one, then token by token."""
    pieces: list[tuple[float, int]] = []
    reach, expected, before = 1.0, 1.0, 1.0
    for count, chance in enumerate(chances, start=1):
        reach *= chance
        expected += reach
        if count >= least:
            pieces.append((math.log(expected / before), least if count == least else 1))
            before = expected
    return pieces
