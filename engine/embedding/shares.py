"""Which texts of a batch go to which context: pure bookkeeping."""

from collections.abc import Sequence
from typing import Final

import attrs

# Fewer tokens are computed by all threads together: each context reads all weights for its share.
LEAST_SHARE: Final = 8
# The longest share may be so many times the mean: in a longer one most threads would wait for the one that has it.
MOST_UNEVEN: Final = 1.5


@attrs.define
class Share:
    """Places in the list of sizes, and what is left to add: tokens and texts."""

    tokens: int
    texts: int
    load: int = 0
    members: list[int] = attrs.field(factory=list)


def worth_sharing(sizes: Sequence[int], longest: int, n_idle: int, n_contexts: int) -> bool:
    """Whether ``n_idle`` of the contexts should each take a part of these texts, rather than all threads the whole.

    ``sizes``: tokens of each text. ``longest``: tokens of a text that any context takes.
    """
    mean = sum(sizes) / n_idle
    if len(sizes) < n_idle or max(sizes) > min(longest, MOST_UNEVEN * mean):
        return False
    return n_idle < n_contexts or mean >= LEAST_SHARE


def share_out(sizes: Sequence[int], rooms: Sequence[tuple[int, int]]) -> tuple[list[list[int]], list[int]]:
    """For each context the texts that it gets, in order, and those that found no room. All by place in ``sizes``.

    ``sizes``: tokens of each text. ``rooms``: the most tokens and texts of each context, the largest first. The longest
    text goes first, to the context with the least to do ("longest processing time", Graham, Bounds on Multiprocessing
    Timing Anomalies, 1969): none has more to do than a third above the least possible, where all fit.
    """
    shares = [Share(tokens, texts) for tokens, texts in rooms]
    left: list[int] = []
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        size = sizes[place]
        fitting = [share for share in shares if share.load + size <= share.tokens and len(share.members) < share.texts]
        if not fitting:
            left.append(place)
            continue
        chosen = min(fitting, key=lambda share: share.load)
        chosen.load += size
        chosen.members.append(place)
    return [sorted(share.members) for share in shares], sorted(left)
