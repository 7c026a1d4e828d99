"""Whether one row of nothing makes a decode step cheaper: pure bookkeeping over measured times.

Kernels take the rows of a batch in groups, and a number that leaves one over can cost more than the next one. On AVX2
with Qwen 0.5B Q4_K_M, whose weights are mostly Q5_0 and Q8_0, 3 rows take 151 ms and 4 rows 122, 5 rows take 189 and 6
rows 164; with the 1.5B, whose weights are Q4_K, each row more costs more (tools/bench/RESULTS.md). So both ways are
tried for each odd number of rows, in turns, and the cheaper one is taken for some time.
"""

from statistics import median
from typing import Final

import attrs

FEWEST, MOST = 3, 15  # rows: a second one costs as much as the first everywhere, and with many one matters little
TRIED: Final = 16  # steps of either way
WORTH: Final = 0.96  # of the plain step's time: less would be chance
AGAIN: Final = 4096  # steps after which both are tried anew: the machine may have other work by then


@attrs.define
class _Trial:
    """What steps of one number of rows took, in seconds; ``pads``: the outcome, for so many steps as are ``left``."""

    plain: list[float] = attrs.field(factory=list)
    padded: list[float] = attrs.field(factory=list)
    pads: bool | None = None
    left: int = AGAIN


class RowPadding:
    """Asked before each step of decodes alone, and told after it what it took."""

    def __init__(self) -> None:
        self._trials: dict[int, _Trial] = {}

    def pads(self, n_rows: int) -> bool:
        """Whether the next step of so many rows should have one more."""
        if n_rows % 2 == 0 or not FEWEST <= n_rows <= MOST:
            return False
        trial = self._trials.setdefault(n_rows, _Trial())
        if trial.pads is None:
            return len(trial.padded) < len(trial.plain)
        trial.left -= 1
        if trial.left == 0:
            del self._trials[n_rows]
        return trial.pads

    def measured(self, n_rows: int, *, padded: bool, seconds: float) -> None:
        """A step of so many rows, one of nothing not counted, took so long."""
        trial = self._trials.get(n_rows)
        if trial is None or trial.pads is not None:
            return
        way = trial.padded if padded else trial.plain
        if len(way) < TRIED:
            way.append(seconds)
        if min(len(trial.plain), len(trial.padded)) >= TRIED:
            trial.pads = median(trial.padded) < WORTH * median(trial.plain)
